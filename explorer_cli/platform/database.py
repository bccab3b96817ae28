"""The database as a part of the platform: its start, checks and stop."""

from collections.abc import Mapping
from contextlib import closing
from typing import Any

import psycopg

from explorer.core.errors import ExplorerError
from explorer.core.settings import Settings
from explorer.postgres.connections import is_external, load_connections
from explorer.postgres.embedded import STOP_TIMEOUT_S, embedded_from
from explorer.postgres.errors import PostgresNotOwner
from explorer.postgres.provisioning import align_raw_exposure
from explorer.postgres.state import read_record
from explorer_cli.supervision.home import space_problem
from explorer_cli.supervision.units import Hindered, Step

# A segment of the write-ahead log is 16 MB: with room for fewer than two the server may fail to write.
ROOM_BYTES = 32 * 1024**2
# Nothing works without the database, and a check costs about ten milliseconds.
INTERVAL_S = 2.0


def database_step(settings: Settings) -> Step:
    """The step that sets up and starts the database; its undo stops the embedded server."""

    def start() -> Mapping[str, Any]:
        from explorer.installation import set_up

        try:
            with closing(set_up(settings).admin.connect(autocommit=True)) as admin:
                align_raw_exposure(admin, settings.expose_raw)
        except (ExplorerError, psycopg.Error) as error:
            # The server's own message is only a consequence of the full disk.
            raise database_room(settings) or error from error
        return {"database": database_facts(settings)}

    return Step(
        "database",
        "Database",
        start,
        undo=lambda: stop_database(settings, force=False),
        ready=lambda: database_answers(settings),
        needs=("packages",),
        health_interval_s=INTERVAL_S,
    )


def database_facts(settings: Settings) -> dict[str, Any]:
    """`{host, port, name}` of the database, no secret. Raises DatabaseNotReady before the first start."""
    login = load_connections(settings).service.conninfo()
    return {"host": login["host"], "port": login["port"], "name": login["dbname"]}


def stop_database(settings: Settings, *, force: bool, timeout_s: float | None = None) -> bool:
    """Stop the embedded server; False when there was none, or when it belongs to another process and `force` is not set.

    `timeout_s`: as in `EmbeddedPostgres.stop`.
    """
    if is_external(settings):
        return False
    try:
        return embedded_from(settings).stop(force=force, timeout_s=STOP_TIMEOUT_S if timeout_s is None else timeout_s)
    except PostgresNotOwner:
        return False


def database_recovers(settings: Settings) -> bool:
    """Whether the stopped embedded server must replay its log at the next start."""
    return not is_external(settings) and embedded_from(settings).needs_recovery()


def database_answers(settings: Settings) -> bool:
    """Whether the service login can query the database.

    Raises:
        Hindered: it can, but the embedded server has no room to write.
        DatabaseUnreachable, DatabaseNotReady.
    """
    with closing(load_connections(settings).service.connect()) as connection:
        answered = connection.execute("SELECT 1").fetchone() == (1,)
    full = database_room(settings)
    if full:
        raise full
    return answered


def database_room(settings: Settings) -> Hindered | None:
    """A message when the embedded server has no room to write; None when it has, and for an external server."""
    if is_external(settings):
        return None
    record = read_record(settings.home)
    folder = record.cluster_dir if record and record.cluster_dir else settings.home
    why = space_problem(folder, ROOM_BYTES)
    return Hindered(f"cannot write: {why}", next_step=f"Make room at {folder}; it goes on by itself.") if why else None
