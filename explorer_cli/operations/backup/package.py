"""The folder of a backup: its files, and the manifest that is written last and names each with its checksum."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from explorer.core.errors import ExplorerError
from explorer.core.files import write_private

MANIFEST = "manifest.json"
GLOBALS = "globals.sql"
DATABASES = ("explorer", "dagster")
# Of HOME, where they are there. Sessions of the UI and the address of the server are made anew.
KEYS = ("secret.keys", "audit.key", "bridge.key", "metrics.token")
# Of HOME: sealed entries of the audit trail.
AUDIT = "audit"
FORMAT = 1
_NEEDED = (GLOBALS, *(f"{database}.dump" for database in DATABASES))
_SEALED = re.compile(rf"{AUDIT}/\w[\w.-]*", re.ASCII)
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
        BackupUnusable: there is none, it names a file that no backup has, or a file is missing or was changed.
    """
    try:
        manifest = TypeAdapter(Manifest).validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        raise BackupUnusable(
            f"{folder} holds no whole backup: it has no manifest that can be read.",
            next_step="Name the folder that `explorer backup` has filled to its end.",
        ) from None
    if manifest.format != FORMAT:
        raise BackupUnusable(
            f"The backup is of form {manifest.format}, this program reads form {FORMAT}.",
            next_step="Use its own version.",
        )
    strange = sorted(name for name in manifest.files if not is_ours(name) or _is_linked(folder, name))
    if strange:
        raise BackupUnusable(
            f"The backup names files that no backup has, or links: {', '.join(strange)}.",
            next_step="Do not restore it: somebody has changed it. Use another backup.",
        )
    wanted = dict.fromkeys(_NEEDED, "") | dict(manifest.files)
    bad = sorted(name for name, digest in wanted.items() if checksum(folder / name) != digest)
    if bad:
        raise BackupUnusable(
            f"These files of the backup are missing or were changed: {', '.join(bad)}.",
            next_step="Use another backup, or bring the files back.",
        )
    return manifest


def is_ours(name: str) -> bool:
    """Whether a backup may hold a file of this name, which is a path in its folder."""
    return name in (*_NEEDED, *KEYS) or _SEALED.fullmatch(name) is not None


def is_of_home(name: str) -> bool:
    """Whether this file of a backup is HOME's, at the same path there."""
    return name not in _NEEDED


def _is_linked(folder: Path, name: str) -> bool:
    return any(path.is_symlink() for path in (folder / name, (folder / name).parent) if path != folder)


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
