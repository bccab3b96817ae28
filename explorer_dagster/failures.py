"""How whatever ends a step reaches whoever asks: as a failure whose description begins with the cause."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import psycopg2
from sqlalchemy.exc import DBAPIError

from explorer.core.errors import ExplorerError, TransientError
from explorer_dagster.resources import failure

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_MAX_CHARS = 400


class StorageFailed(TransientError):
    """The database or the file system refused in the middle of a step; what it had not finished is as it was before."""

    code = "storage_failed"


@contextmanager
def told() -> Iterator[None]:
    """Whatever our own code, the database or the file system raises in the block fails the step with its cause in words.

    Raises: dagster.Failure.
    """
    try:
        yield
    except ExplorerError as error:
        raise failure(error) from error
    except (psycopg.Error, psycopg2.Error, DBAPIError, OSError) as error:
        # Without the chain: who reads only its innermost error would miss what to do.
        raise failure(storage_failed(error)) from None


def storage_failed(error: Exception) -> StorageFailed:
    """An error of the database or the file system in words. SQLSTATE or errno in the details; no row contents."""
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
        next_step=next_step_of(said),
        details={"sqlstate": sqlstate} if sqlstate else {},
    )


def next_step_of(said: str) -> str:
    """What to do about something the database said."""
    if "No space left" in said or "disk full" in said or "quota" in said.lower():
        return _MAKE_ROOM
    return "Run it again; the database's log tells more. What was not finished is as it was before."


_MAKE_ROOM = "Make room on the disk of HOME or of the database, then run it again."
