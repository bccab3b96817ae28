"""How dbt, which runs in a thread of this process, is made to stop."""

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
        # A second interrupt must not leave queries behind.
        with contextlib.suppress(BaseException):
            if not is_interrupted and not _is_in_pool(thread):
                is_interrupted = True
                kind = ctypes.py_object(KeyboardInterrupt)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), kind)
            _cancel_queries()
            thread.join(timeout=0.05)


def _is_in_pool(thread: threading.Thread) -> bool:
    """Whether dbt is about its pool of threads, whose locks an interrupt could leave taken for ever: whoever collects that pool
    as garbage later waits for them. It is there for moments, or when all is over but for what queries end."""
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
