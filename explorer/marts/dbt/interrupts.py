"""How is dbt, in a thread of this process, stopped?"""

import contextlib
import ctypes
import multiprocessing
import sys
import threading
import time
from pathlib import Path

_CANCEL_LIMIT_S = 20.0
_MULTIPROCESSING = str(Path(multiprocessing.__file__).parent)


def stop(thread: threading.Thread) -> None:
    """Make dbt stop as on Ctrl-C, and cancel its queries until it has."""
    deadline = time.monotonic() + _CANCEL_LIMIT_S
    is_interrupted = False
    while thread.is_alive() and time.monotonic() < deadline:
        # A second interrupt must not leave queries running.
        with contextlib.suppress(BaseException):
            if not is_interrupted and not _is_in_pool(thread):
                is_interrupted = True
                kind = ctypes.py_object(KeyboardInterrupt)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), kind)
            _cancel_queries()
            thread.join(timeout=0.05)


def _is_in_pool(thread: threading.Thread) -> bool:
    """Whether dbt is starting or closing its thread pool. An interrupt there could leave the pool's locks taken, and whoever
    collects the pool as garbage would wait for them. These moments are short, or come when everything but the ending of queries
    is over."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if frame.f_code.co_filename.startswith(_MULTIPROCESSING):
            return True
        frame = frame.f_back
    return False


def _cancel_queries() -> None:
    from dbt.adapters.contracts.connection import ConnectionState
    from dbt.adapters.factory import FACTORY

    for adapter in list(FACTORY.adapters.values()):
        for connection in list(adapter.connections.thread_connections.values()):
            if connection.state == ConnectionState.OPEN:
                with contextlib.suppress(Exception):
                    connection.handle.cancel()
