"""Which of several processes may do something? File locks, which the kernel releases when their holder dies."""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from explorer.core.files import own_like

POLL_S = 0.02


def open_lock(path: Path) -> int:
    """Open the lock file; make it if needed (mode 0600).

    On a read-only file system the file, or else its folder, is opened for reading: that can be locked too, and stopping must work
    there. Raises OSError.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        lockable = path if path.exists() else path.parent
        return os.open(lockable, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)


def try_lock(fd: int) -> bool:
    """Try to lock the open file for this process, without waiting."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def file_lock(path: Path, timeout_s: float | None = None) -> Iterator[None]:
    """Hold the lock `path` inside the block; it belongs to the owner of its folder.

    Raises:
        TimeoutError: another process has held it for `timeout_s`; None waits without limit.
        OSError: it cannot be opened.
    """
    fd = open_lock(path)
    try:
        with contextlib.suppress(OSError):
            own_like(fd, path.parent)
        deadline = time.monotonic() + timeout_s if timeout_s is not None else float("inf")
        while not try_lock(fd):
            if time.monotonic() > deadline:
                raise TimeoutError(f"Another process has held {path} for {timeout_s:.0f} s.")
            time.sleep(POLL_S)
        yield
    finally:
        os.close(fd)
