"""Runs the migrations. A module of its own because it imports Alembic, which readers do not need."""

from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import text

from explorer.catalog.errors import CatalogNotReady
from explorer.catalog.storage.database import Database
from explorer.postgres.connections import Connections

_LOCK_KEY = "explorer.catalog.migrate"
_LOCK_TIMEOUT_S = 120


def migrate(connections: Connections) -> None:
    """See `explorer.catalog.migrations.migrate`."""
    with closing(Database(connections.catalog)) as database:
        try:
            database.check_version()
        except CatalogNotReady:
            upgrade(database)
            database.check_version()


def scripts() -> ScriptDirectory:
    """Alembic's view of the version files."""
    return ScriptDirectory.from_config(_config())


def upgrade(database: Database, revision: str = "head") -> None:
    """Upgrade the tables to `revision`; one process at a time.

    Raises:
        CatalogNotReady: they are newer than this program.
    """
    config = _config()
    with database.begin(lock_timeout_s=_LOCK_TIMEOUT_S) as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": _LOCK_KEY})
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, revision)
        except CommandError as error:
            raise CatalogNotReady(
                "The catalog was made by a newer version of this program.", next_step="Upgrade this program."
            ) from error


def _config() -> Config:
    config = Config()
    # A percent sign in the path would be read as interpolation.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
