"""`explorer backup DIR`: everything that cannot be loaded again, and the rest too, while the platform runs or is stopped."""

import shutil
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import SecretStr

from explorer.catalog.audit.log import change
from explorer.catalog.storage.database import HEAD
from explorer.core.settings import Settings
from explorer.postgres.connections import Login
from explorer_cli.operations.backup.package import (
    AUDIT,
    DATABASES,
    GLOBALS,
    KEYS,
    BackupUnusable,
    Manifest,
    checksum,
    is_ours,
    write_manifest,
)
from explorer_cli.operations.backup.programs import Programs
from explorer_cli.operations.backup.roles import own_roles, united
from explorer_cli.output.terminal import answer_json, say
from explorer_cli.platform.context import open_settings
from explorer_cli.platform.store import open_store


def make_backup(folder: Path, *, as_json: bool) -> int:
    """Write a backup into `folder`, which must be empty or not there. Raises: BackupUnusable."""
    settings = open_settings()
    _empty(folder)
    with open_store(settings) as store:
        admin = store.connections.admin
        programs = Programs(settings, admin)
        # Twice: a dump with a tenant whose roles are missing could not be restored.
        before = list(own_roles(programs.globals()))
        for database in DATABASES:
            programs.dump(database, folder / f"{database}.dump")
        statements = united(before, own_roles(programs.globals()))
        (folder / GLOBALS).write_text("\n".join(statements) + "\n", encoding="utf-8")
        keys = _copy_files(settings, folder)
        files = {str(path.relative_to(folder)): checksum(path) or "" for path in _files(folder)}
        write_manifest(
            folder,
            Manifest(datetime.now(UTC).isoformat(), _version(), HEAD, _major(admin), _told(settings), files),
        )
        store.catalog.audit.append(change("backup"))
    size = sum(path.stat().st_size for path in _files(folder))
    if as_json:
        answer_json({"folder": str(folder), "bytes": size, "files": sorted(files), "keys": keys})
        return 0
    say(f"The backup is in {folder}: {size / 1e6:.1f} MB, {len(files)} files.")
    if not keys:
        say(
            ("It has no keys: ", "yellow"),
            "they are settings (EXPLORER_SECRET_KEYS). Keep them too; without them no credential is left.",
        )
    else:
        say("It holds the keys of all credentials: whoever has it has them.")
    return 0


def _empty(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        taken = any(folder.iterdir())
    except OSError as error:
        raise BackupUnusable(
            f"{folder} cannot be used: {error.strerror}.", next_step="Name a folder that this account can write."
        ) from None
    if taken:
        raise BackupUnusable(f"{folder} is not empty.", next_step="Name a new folder for each backup.")


def _copy_files(settings: Settings, folder: Path) -> bool:
    """Copy keys and sealed entries of the audit trail. Returns whether the keys of credentials are among them."""
    for name in KEYS:
        if (settings.home / name).is_file():
            shutil.copyfile(settings.home / name, folder / name)
    if (settings.home / AUDIT).is_dir():
        (folder / AUDIT).mkdir(mode=0o700)
        for path in (settings.home / AUDIT).iterdir():
            # Not the unfinished ones, which may be gone in a moment.
            if is_ours(f"{AUDIT}/{path.name}") and path.is_file():
                shutil.copyfile(path, folder / AUDIT / path.name)
    return (folder / KEYS[0]).is_file()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _told(settings: Settings) -> dict[str, str]:
    """The settings that were given, without secrets: to look at, since a restored installation may stand elsewhere."""
    given = {name: getattr(settings, name) for name in sorted(settings.model_fields_set)}
    return {name: str(value) for name, value in given.items() if value is not None and not isinstance(value, SecretStr)}


def _major(admin: Login) -> int:
    with admin.connect() as connection:
        return connection.info.server_version // 10_000


def _version() -> str:
    try:
        return version("data-explorer")
    except PackageNotFoundError:
        return "0"
