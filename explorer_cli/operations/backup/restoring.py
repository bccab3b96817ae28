"""`explorer restore DIR`: makes the installation of a backup in an empty HOME."""

import shutil
from pathlib import Path

from explorer.catalog import Catalog
from explorer.catalog.audit.log import change
from explorer.catalog.storage.database import HEAD
from explorer.core.settings import Settings
from explorer.installation import set_up
from explorer.postgres.connections import Login, admin_login, is_external
from explorer.postgres.embedded import embedded_from
from explorer.postgres.state import CONNECTION_FILE, ConnectionRecord, read_record
from explorer_cli.operations.backup.package import (
    DATABASES,
    GLOBALS,
    BackupUnusable,
    HomeInUse,
    Manifest,
    read_manifest,
)
from explorer_cli.operations.backup.programs import Programs
from explorer_cli.output.terminal import answer_json, say
from explorer_cli.platform.context import open_settings
from explorer_cli.platform.database import stop_database
from explorer_cli.supervision.lock import Lock


def restore_backup(folder: Path, *, as_json: bool) -> int:
    """Restore `folder` into HOME, which holds no installation, and into the server of the settings, which has no databases of
    ours. When it fails, nothing is left.

    Raises:
        BackupUnusable, HomeInUse.
    """
    manifest = read_manifest(folder)
    if manifest.catalog > HEAD:
        raise BackupUnusable(
            f"The backup is of version {manifest.catalog} of the catalog, this program knows {HEAD}.",
            next_step=f"Restore it with version {manifest.program} of this program, or a later one.",
        )
    settings = open_settings()
    _refuse_installation(settings)
    lock = Lock(settings.home)
    lock.acquire()
    try:
        try:
            _restore(settings, folder, manifest)
        except BaseException:
            _undo(settings, manifest)
            raise
        if not is_external(settings):
            stop_database(settings, force=True)
    finally:
        lock.release()
    if as_json:
        answer_json({"home": str(settings.home), "made_at": manifest.made_at, "files": len(manifest.files)})
        return 0
    say(f"The backup of {manifest.made_at} is restored in {settings.home}. Start it with `explorer up`.")
    given = {name: value for name, value in manifest.settings.items() if name != "home"}
    if given:
        say(
            "It ran with these settings, beside secrets: ",
            ", ".join(f"{name}={value}" for name, value in given.items()),
        )
    return 0


def _refuse_installation(settings: Settings) -> None:
    taken = [name for name in (CONNECTION_FILE, "secret.keys", "postgres") if (settings.home / name).exists()]
    if taken:
        raise HomeInUse(
            f"{settings.home} holds an installation: it has {', '.join(map(str, taken))}.",
            next_step="Set EXPLORER_HOME to a new folder; an old one is moved away, never written over.",
        )


def _restore(settings: Settings, folder: Path, manifest: Manifest) -> None:
    for name in manifest.files:
        if name == GLOBALS or name.endswith(".dump"):
            continue
        target = settings.home / name
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copyfile(folder / name, target)
        target.chmod(0o600)
    admin = _admin(settings)
    _refuse_databases(admin)
    programs = Programs(settings, admin)
    programs.execute((folder / GLOBALS).read_text(encoding="utf-8").splitlines())
    for database in DATABASES:
        programs.restore(folder / f"{database}.dump")
    # The service logins get passwords of this HOME, and the catalog this program's version.
    set_up(settings, take_over=is_external(settings))
    with Catalog.open(settings) as catalog:
        catalog.audit.append(change("restore", made_at=manifest.made_at))


def _admin(settings: Settings) -> Login:
    if not is_external(settings):
        embedded_from(settings).start()
    return admin_login(settings, read_record(settings.home) or ConnectionRecord())


def _refuse_databases(admin: Login) -> None:
    with admin.connect(autocommit=True) as connection:
        rows = connection.execute(
            "SELECT datname FROM pg_database WHERE datname = ANY(%s)", [list(DATABASES)]
        ).fetchall()
    if rows:
        raise HomeInUse(
            f"The server at {admin.host}:{admin.port} has databases of an installation: {', '.join(name for (name,) in rows)}.",
            next_step="Restore to another server, or drop them there if they are not needed.",
        )


def _undo(settings: Settings, manifest: Manifest) -> None:
    """Leave HOME as it was found. What an external server has been given stays: the error says what failed."""
    if not is_external(settings):
        embedded_from(settings).remove_data()
    for name in manifest.files:
        (settings.home / name).unlink(missing_ok=True)
