"""An export as a file in a folder of this machine: private, whole or not there, with its provenance beside it."""

import os
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from explorer.core.errors import ExplorerError
from explorer.core.files import settle, sync_folder, write_private
from mcp_bridge.answers.envelope import compact_json
from mcp_bridge.exports.formats import KINDS

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_NAME_CHARS = 80


class ExportFolderUnusable(ExplorerError):
    """The folder for exports cannot be written, or its disk is full."""

    code = "export_folder_unusable"


def safe_name(text: str) -> str:
    """A name of a file made of any text: letters, digits, `.`, `_` and `-`, and nothing that leads elsewhere."""
    return _UNSAFE.sub("-", text).strip(".-")[:_NAME_CHARS] or "export"


def file_name(tenant_key: str, format_: str) -> str:
    """The name of an export, which no other has."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{safe_name(tenant_key)}-{moment}-{secrets.token_hex(4)}.{KINDS[format_][0]}"


class FolderSink:
    """Writes beside the final name, and renames at the end."""

    def __init__(self, folder: Path, name: str) -> None:
        """Raises: ExportFolderUnusable."""
        self._folder, self.path = folder, folder / name
        self._unfinished = folder / f".{name}.unfinished"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file: BinaryIO = os.fdopen(os.open(self._unfinished, flags, 0o600), "wb")
        except OSError as error:
            raise _unusable(folder, error) from None

    async def begin(self) -> None:
        """Nothing waits for the beginning here."""

    async def write(self, part: bytes) -> None:
        """Raises: ExportFolderUnusable."""
        try:
            self._file.write(part)
        except OSError as error:
            raise _unusable(self._folder, error) from None

    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Give the file its name, with its provenance beside it. Raises: ExportFolderUnusable."""
        try:
            self._file.flush()
            settle(self._file.fileno(), self._folder)
            self._file.close()
            write_private(beside(self.path), compact_json(dict(provenance)) + "\n")
            self._unfinished.replace(self.path)
            sync_folder(self._folder)
        except OSError as error:
            raise _unusable(self._folder, error) from None

    def discard(self) -> None:
        """Remove what was written, unless it is finished."""
        self._file.close()
        self._unfinished.unlink(missing_ok=True)


def beside(path: Path) -> Path:
    """Where the provenance of a file lies."""
    return path.with_name(f"{path.name}.provenance.json")


def _unusable(folder: Path, error: OSError) -> ExportFolderUnusable:
    return ExportFolderUnusable(
        f"No export can be written into {folder}: {error.strerror or error}.",
        next_step="Choose another folder with EXPLORER_EXPORT_DIR, or free its disk.",
    )
