"""What do errors of the database or the file system mean for people, and what should they do?"""

import errno

from sqlalchemy.exc import DBAPIError

from explorer.core.errors import TransientError

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_MAX_CHARS = 400


class StorageFailed(TransientError):
    """The database or the file system failed in the middle of a step; unfinished work was rolled back."""

    code = "storage_failed"


def storage_failed(error: Exception) -> StorageFailed:
    """An error of the database or the file system, explained. SQLSTATE or errno in the details; no row contents."""
    if isinstance(error, DBAPIError) and isinstance(error.orig, Exception):
        error = error.orig
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        step = (
            _MAKE_ROOM
            if error.errno in _NO_ROOM
            else "Look at the disk and the rights of that folder, then run it again."
        )
        return StorageFailed(
            f"A file could not be read or written: {error.strerror or type(error).__name__}{where}.",
            next_step=step,
            details={"errno": error.errno},
        )
    sqlstate = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    said = (str(error).strip().splitlines() or [type(error).__name__])[0][:_MAX_CHARS].rstrip(".")
    return StorageFailed(
        f"The database refused: {said}.",
        next_step=next_step_after(said),
        details={"sqlstate": sqlstate} if sqlstate else {},
    )


def next_step_after(said: str) -> str:
    """What to do about a message of the database."""
    if "No space left" in said or "disk full" in said or "quota" in said.lower():
        return _MAKE_ROOM
    return "Run it again; the database's log tells more. What was not finished is as it was before."


_MAKE_ROOM = "Make room on the disk of HOME or of the database, then run it again."
