"""`explorer restore DIR`: makes the installation of a backup in an empty HOME."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

import psycopg
from psycopg import sql

from explorer.catalog import Catalog
from explorer.catalog.audit.log import change
from explorer.catalog.storage.database import HEAD
from explorer.core.errors import ExplorerError
from explorer.core.files import settle
from explorer.core.settings import Settings
from explorer.installation import set_up
from explorer.postgres.connections import EXPLORER_DB, Login, admin_login, is_external
from explorer.postgres.embedded import embedded_from
from explorer.postgres.state import CONNECTION_FILE, ConnectionRecord, read_record
from explorer_cli.operations.backup.package import (
    DATABASES,
    GLOBALS,
    KEYS,
    BackupUnusable,
    HomeInUse,
    Manifest,
    is_of_home,
    read_manifest,
)
from explorer_cli.operations.backup.programs import Programs
from explorer_cli.operations.backup.roles import is_own, own_roles
from explorer_cli.output.terminal import answer_json, say
from explorer_cli.platform.context import open_settings
from explorer_cli.platform.database import stop_database
from explorer_cli.supervision.lock import Lock


def restore_backup(folder: Path, *, as_json: bool) -> int:
    """Restore `folder` into HOME, which holds no installation, and into the server of the settings, which has no databases of
    ours. When it fails, nothing of it is left in HOME or on the server.

    Raises:
        BackupUnusable, HomeInUse.
    """
    manifest = read_manifest(folder)
    if manifest.catalog > HEAD:
        raise BackupUnusable(
            f"The backup is of version {manifest.catalog} of the catalog, this program knows {HEAD}.",
            next_step=f"Restore it with version {manifest.program} of this program, or a later one.",
        )
    statements = _roles_of(folder)
    settings = open_settings()
    lock = Lock(settings.home)
    lock.acquire()
    try:
        _refuse_installation(settings, manifest)
        try:
            _restore(settings, folder, manifest, statements)
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


def _roles_of(folder: Path) -> list[str]:
    """The statements that make its roles. Raises: BackupUnusable: there are others among them."""
    statements = (folder / GLOBALS).read_text(encoding="utf-8").splitlines()
    if list(own_roles(statements)) != statements:
        raise BackupUnusable(
            f"{GLOBALS} of the backup holds statements that no backup has.",
            next_step="Do not restore it: somebody has changed it. Use another backup.",
        )
    return statements


def _refuse_installation(settings: Settings, manifest: Manifest) -> None:
    """Refuse a HOME that has anything which restoring would write, or which it would remove after a failure."""
    ours = dict.fromkeys([CONNECTION_FILE, "postgres", *KEYS, *_files_of_home(manifest)])
    taken = [name for name in ours if os.path.lexists(settings.home / name)]
    if not taken and not is_external(settings) and embedded_from(settings).has_data():
        taken = ["a database"]
    if taken:
        raise HomeInUse(
            f"{settings.home} holds an installation: it has {', '.join(taken)}.",
            next_step="Set EXPLORER_HOME to a new folder; an old one is moved away, never written over.",
        )


def _restore(settings: Settings, folder: Path, manifest: Manifest, statements: list[str]) -> None:
    admin = _admin(settings)
    _refuse_databases(admin)
    for name in _files_of_home(manifest):
        _copy(folder / name, settings.home / name)
    roles = _roles_on(admin)
    try:
        _fill(settings, folder, manifest, statements, admin)
    except BaseException:
        if is_external(settings):
            _take_back(admin, roles)
        raise


def _fill(settings: Settings, folder: Path, manifest: Manifest, statements: list[str], admin: Login) -> None:
    """Make roles and databases on a server that has none of the databases, and set it up."""
    programs = Programs(settings, admin)
    programs.execute(statements)
    for database in DATABASES:
        programs.restore(folder / f"{database}.dump")
    with admin.connect(autocommit=True) as connection:
        # The dump brings the mark of a server that is set up (`explorer.postgres.bootstrap`), but not all of what it vouches for:
        # rights on other databases are not in it.
        connection.execute(sql.SQL("COMMENT ON DATABASE {} IS NULL").format(sql.Identifier(EXPLORER_DB)))
    # The service logins get passwords of this HOME, and the catalog this program's version.
    set_up(settings, take_over=is_external(settings))
    with Catalog.open(settings) as catalog:
        catalog.audit.append(change("restore", made_at=manifest.made_at))


def _files_of_home(manifest: Manifest) -> list[str]:
    return [name for name in manifest.files if is_of_home(name)]


def _copy(source: Path, target: Path) -> None:
    """Copy a file that is not there yet, private, for the owner of HOME."""
    target.parent.mkdir(exist_ok=True, mode=0o700)
    with (
        source.open("rb") as read,
        os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy,
    ):
        shutil.copyfileobj(read, copy)
        copy.flush()
        settle(copy.fileno(), target.parent)


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


def _roles_on(admin: Login) -> set[str]:
    """Roles of the server that are called as ours are."""
    with admin.connect(autocommit=True) as connection:
        rows = connection.execute("SELECT rolname FROM pg_roles").fetchall()
    return {name for (name,) in rows if is_own(name)}


def _take_back(admin: Login, roles_before: set[str]) -> None:
    """Remove databases and roles that this call made on an external server. A server that is gone keeps them; the error of the
    restore is the one that is told then, and the next try names the databases that are in its way."""
    with suppress(ExplorerError, psycopg.Error), admin.connect(autocommit=True) as connection:
        for database in DATABASES:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))
        for role in sorted(_roles_on(admin) - roles_before):
            # Rights on databases that stay; what it owned went with the others.
            connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def _undo(settings: Settings, manifest: Manifest) -> None:
    """Take away what this call made in HOME, where none of it was before."""
    if not is_external(settings):
        embedded_from(settings).remove_data()
    for name in (CONNECTION_FILE, *KEYS, *_files_of_home(manifest)):
        (settings.home / name).unlink(missing_ok=True)
