"""The folder of a backup: its files, and the manifest that is written last and names each with its checksum."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from explorer.core.errors import ExplorerError
from explorer.core.files import write_private

MANIFEST = "manifest.json"
GLOBALS = "globals.sql"
DATABASES = ("explorer", "dagster")
# Of HOME, where they are there. Sessions of the UI and the address of the server are made anew.
KEYS = ("secret.keys", "audit.key", "bridge.key", "metrics.token")
FORMAT = 1
_CHUNK = 1 << 20


class BackupUnusable(ExplorerError):
    """The folder holds no whole backup that this program can restore, or cannot take one."""

    code = "backup_unusable"


class HomeInUse(ExplorerError):
    """There is an installation already where one is to be restored."""

    code = "home_in_use"


@dataclass(frozen=True)
class Manifest:
    """`catalog`: version of its tables; `postgres`: major version of the server; `settings`: those that were set, without
    secrets; `files`: SHA-256 by path in the folder."""

    made_at: str
    program: str
    catalog: str
    postgres: int
    settings: Mapping[str, str]
    files: Mapping[str, str]
    format: int = FORMAT


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write it down; the backup is whole then."""
    write_private(folder / MANIFEST, json.dumps(asdict(manifest), indent=2), durable=True)


def read_manifest(folder: Path) -> Manifest:
    """The manifest, after each file was compared with it.

    Raises:
        BackupUnusable: there is none, or a file is missing or was changed.
    """
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        manifest = Manifest(**found)
    except (OSError, ValueError, TypeError):
        raise BackupUnusable(
            f"{folder} holds no whole backup: it has no manifest that can be read.",
            next_step="Name the folder that `explorer backup` has filled to its end.",
        ) from None
    if manifest.format != FORMAT:
        raise BackupUnusable(
            f"The backup is of form {manifest.format}, this program reads form {FORMAT}.",
            next_step="Use its own version.",
        )
    bad = sorted(name for name, digest in manifest.files.items() if checksum(folder / name) != digest)
    if bad:
        raise BackupUnusable(
            f"These files of the backup are missing or were changed: {', '.join(bad)}.",
            next_step="Use another backup, or bring the files back.",
        )
    return manifest


def checksum(path: Path) -> str | None:
    """SHA-256 in hexadecimal; None for a file that cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError:
        return None
    return digest.hexdigest()
