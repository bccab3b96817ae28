"""A process that forks one worker per request on a Unix socket that only its owner can open.

A request is a text. The answer is the worker's pid, or `stale` when the server's code has changed: the server then ends, and its
supervisor starts a new one. The worker's function is handed in. Nothing may start a thread, open a database connection or a gRPC
channel before the fork.
"""

import contextlib
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from explorer.core.locks import open_lock, try_lock

STALE = b"stale"
_REQUEST_TIMEOUT_S = 5.0
# Less than the supervisor gives the pool.
_END_GRACE_S = 2.0

Work = Callable[[str], int]


@contextmanager
def the_only_one(path: Path) -> Iterator[int]:
    """Make this process the only one that serves `path`; yields the file descriptor of its lock. Raises: SystemExit."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.parent.stat().st_uid != os.getuid():
        raise SystemExit(f"{path.parent} belongs to somebody else; remove it or choose another EXPLORER_HOME.")
    fd = open_lock(path.with_suffix(".lock"))
    try:
        if not try_lock(fd):
            raise SystemExit(f"A warm pool is already running ({path.with_suffix('.lock')}).")
        yield fd
    finally:
        os.close(fd)


def serve(path: Path, work: Work, *, is_current: Callable[[], bool], lock: int) -> None:
    """Listen on `path` and fork per request, until `is_current` returns False or SIGTERM, which ends the workers too.

    `work`: runs a request in the worker and returns its exit code. `lock`: of `the_only_one`, closed in workers.
    """
    workers: set[int] = set()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_listen(path))
        stack.callback(path.unlink, missing_ok=True)
        wakeup = _wake_on_signals()
        selector = stack.enter_context(selectors.DefaultSelector())
        selector.register(server, selectors.EVENT_READ)
        selector.register(wakeup, selectors.EVENT_READ)
        print(f"warm, listening on {path}", flush=True)
        while True:
            for key, _ in selector.select():
                if key.fileobj == wakeup:
                    terminating = signal.SIGTERM in os.read(wakeup, 4096)
                    _reap(workers)
                    if terminating:
                        _end(workers)
                        return
                elif is_current():
                    _fork_worker(server, workers, work, inherited=(lock, wakeup))
                else:
                    _answer_stale(server)
                    return


def _answer_stale(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection, contextlib.suppress(OSError):
        _read(connection)
        connection.sendall(STALE)


def _read(connection: socket.socket) -> bytes:
    connection.settimeout(_REQUEST_TIMEOUT_S)
    return b"".join(iter(lambda: connection.recv(65536), b""))


def _fork_worker(server: socket.socket, workers: set[int], work: Work, *, inherited: tuple[int, ...]) -> None:
    """Read one request, fork its worker and answer with the pid. A request that is no text gets neither."""
    connection, _ = server.accept()
    with connection, contextlib.suppress(TimeoutError, BrokenPipeError, ConnectionResetError, UnicodeDecodeError):
        # Decoded before the fork: an error in the child outside `work` would let it go on as a second server.
        request = _read(connection).decode()
        if not request:
            return
        pid = os.fork()
        if pid == 0:
            _work(request, work, (server, connection), inherited)
        workers.add(pid)
        connection.sendall(str(pid).encode())


def _work(request: str, work: Work, sockets: tuple[socket.socket, ...], inherited: tuple[int, ...]) -> NoReturn:
    """The forked worker. It always exits here, without the parent's clean-up."""
    code = 1
    try:
        for each in sockets:
            each.close()
        for fd in inherited:
            os.close(fd)
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = work(request)
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX)
    previous = os.umask(0o177)
    try:
        server.bind(os.fspath(path))
    finally:
        os.umask(previous)
    server.listen(64)
    return server


def _wake_on_signals() -> int:
    """A file descriptor that becomes readable on SIGCHLD and SIGTERM, so that neither is missed between two selects."""
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return read_fd


def _reap(workers: set[int]) -> None:
    with contextlib.suppress(ChildProcessError):
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            workers.discard(pid)


def _end(workers: set[int]) -> None:
    """Interrupt every worker, give it time to cancel its queries and report, then kill the rest."""
    for pid in workers:
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _END_GRACE_S
    while workers and time.monotonic() < deadline:
        time.sleep(0.05)
        _reap(workers)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
