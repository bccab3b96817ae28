"""How are private files written? In one step, with mode 0600, never half, and never two secrets for one."""

import contextlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

UMASK = 0o077


def write_privately() -> None:
    """Set the umask so that new files of this process and its children are private. For programs, at their start."""
    os.umask(UMASK)


def write_private(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Replace the file `path` (0600) in one step, so that no reader sees half of it. Makes its folder if needed.

    `durable`: it survives a power cut, and belongs to the owner of its folder even when root writes it. Raises OSError.
    """
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary(path) as (fd, unfinished):
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                settle(file.fileno(), path.parent)
        unfinished.replace(path)
    if durable:
        sync_folder(path.parent)


def private_secret(path: Path, *, durable: bool = False) -> str:
    """The secret stored in `path`. When several processes find it missing, one creates it and all read that one.

    `durable` as in `write_private`. Raises OSError.
    """
    if not path.exists():
        _make_secret(path, durable=durable)
    return path.read_text(encoding="utf-8").strip()


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; empty when the file is missing or holds something else. Raises OSError when unreadable."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def temporary(path: Path) -> Iterator[tuple[int, Path]]:
    """An open temporary file (0600) beside `path`, as descriptor and path; removed unless renamed: on a full disk it would waste
    space. Raises OSError."""
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        yield fd, Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush the names in `folder` to disk: what was renamed there survives a power cut. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def settle(fd: int, folder: Path) -> None:
    """Give the open file to the owner of `folder` and flush it to disk."""
    own_like(fd, folder)
    os.fsync(fd)


def own_like(fd: int, folder: Path) -> None:
    """Give the open file to the owner of `folder`: root at work in somebody's HOME must leave files that its owner can read."""
    if os.geteuid() == 0:
        status = folder.stat()
        os.fchown(fd, status.st_uid, status.st_gid)


def _make_secret(path: Path, *, durable: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary(path) as (fd, unfinished):
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(32))
            file.flush()
            if durable:
                settle(file.fileno(), path.parent)
        with contextlib.suppress(FileExistsError):
            os.link(unfinished, path)
    if durable:
        sync_folder(path.parent)
