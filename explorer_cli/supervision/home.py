"""Checks by trying whether HOME exists and can be written."""

import errno
import os
import tempfile
from pathlib import Path

from explorer.core.home import home_not_usable, make_home

_TRIED_BYTES = 64 * 1024


def open_home(home: Path, *, writable: bool = True) -> None:
    """Make HOME and its `run` and `logs` folders if they are missing; `writable` requires that all can be written.

    Raises:
        HomeNotUsable: one of them cannot be made or written.
    """
    make_home(home)
    try:
        for name in ("run", "logs"):
            (home / name).mkdir(exist_ok=True, mode=0o700)
            if writable and not os.access(home / name, os.W_OK | os.X_OK):
                raise OSError(errno.EACCES, write_problem(home / name) or os.strerror(errno.EACCES), str(home / name))
    except OSError as error:
        raise home_not_usable(home, error) from error


def write_problem(folder: Path) -> str | None:
    """Try to write in `folder`: the system's reason why that fails, None when it works."""
    try:
        fd, name = tempfile.mkstemp(dir=folder, prefix=".room.")
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(bytes(_TRIED_BYTES))
        finally:
            Path(name).unlink()
    except OSError as error:
        return error.strerror or type(error).__name__
    return space_problem(folder)


def space_problem(folder: Path, needed_bytes: int = 1) -> str | None:
    """A message when ordinary accounts have less than `needed_bytes` or no inode left on the disk; None when enough is free."""
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    full = os.strerror(errno.ENOSPC)
    if room.f_blocks and free < needed_bytes:
        return f"{full} ({free / 1024**2:.0f} MB free at {folder})"
    if room.f_files and not room.f_favail:
        return f"{full} (no file more can be made at {folder})"
    return None
