"""How does the catalog talk to its database? One pooled engine per process, short transactions, typed errors.

Knows no table but the version that the migrations write.
"""

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidatePoolError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from explorer.catalog.errors import CatalogNotReady, CatalogUnavailable
from explorer.postgres.connections import Login, is_alive

# The newest of the files in `explorer.catalog.migrations.versions`.
HEAD = "0031"
_UNDEFINED_TABLE = "42P01"
_INVALID_SCHEMA = "3F000"
_LOCK_NOT_AVAILABLE = "55P03"
# Set per connection: a statement in each transaction would take a quarter of its time.
_LOCK_TIMEOUT_S = 30.0
_RECYCLE_S = 240


class Database:
    """A pool of connections with one login. Safe to keep across `fork`: the child opens its own connections."""

    def __init__(self, login: Login) -> None:
        self._engine = create_engine(
            "postgresql+psycopg://",
            connect_args=_connect_args(login),
            pool_size=2,
            max_overflow=8,
            pool_timeout=30,
            # Below the idle limit of usual firewalls, which drop connections silently.
            pool_recycle=_RECYCLE_S,
            hide_parameters=True,
            use_native_hstore=False,
        )
        event.listen(self._engine, "checkout", _refuse_if_ended)
        self._autocommit = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        engine = weakref.ref(self._engine)

        def leave_connections_to_the_parent() -> None:
            if (inherited := engine()) is not None:
                inherited.dispose(close=False)

        os.register_at_fork(after_in_child=leave_connections_to_the_parent)

    @contextmanager
    def begin(self, *, lock_timeout_s: float = _LOCK_TIMEOUT_S) -> Iterator[Connection]:
        """A transaction: committed at the end of the block, rolled back by an exception.

        Raises:
            CatalogUnavailable: the server does not answer, or a lock was not granted within `lock_timeout_s`.
        """
        try:
            with self._engine.begin() as connection:
                if lock_timeout_s != _LOCK_TIMEOUT_S:
                    connection.execute(
                        text("SELECT set_config('lock_timeout', :value, true)"),
                        {"value": f"{int(lock_timeout_s * 1000)}ms"},
                    )
                yield connection
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            raise _unavailable(error) from error

    @contextmanager
    def single(self) -> Iterator[Connection]:
        """A connection in autocommit mode: for a single statement, at a third of the time.

        Raises:
            CatalogUnavailable: as `begin`.
        """
        try:
            with self._autocommit.connect() as connection:
                yield connection
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            raise _unavailable(error) from error

    def check_version(self) -> None:
        """Check that the tables have this program's version.

        Raises:
            CatalogNotReady, CatalogUnavailable.
        """
        try:
            with self.begin() as connection:
                version = connection.scalar(text("SELECT version_num FROM catalog.alembic_version"))
        except ProgrammingError as error:
            if sqlstate(error) not in (_UNDEFINED_TABLE, _INVALID_SCHEMA):
                raise
            version = None
        if version != HEAD:
            found = f"is at version {version}" if version else "has no tables yet"
            raise CatalogNotReady(
                f"The catalog {found}; this program needs version {HEAD}.",
                next_step="Run `explorer up` or `explorer db upgrade`, which bring it up to date; if the catalog is newer, "
                "upgrade this program.",
            )

    def close(self) -> None:
        """Close the pooled connections."""
        self._engine.dispose()


def _connect_args(login: Login) -> dict[str, Any]:
    args = {"connect_timeout": 10, **login.conninfo(), "application_name": "explorer-catalog"}
    return {**args, "options": f"{args.get('options', '')} -c lock_timeout={int(_LOCK_TIMEOUT_S * 1000)}ms".strip()}


def _refuse_if_ended(connection: Any, _record: object, _proxy: object) -> None:
    """Replaces SQLAlchemy's ping at each checkout."""
    if not is_alive(connection):
        raise InvalidatePoolError("the server has ended the session")


def sqlstate(error: DBAPIError) -> str | None:
    """SQLSTATE of the server's error, if it sent one."""
    return getattr(error.orig, "sqlstate", None)


def constraint_name(error: DBAPIError) -> str | None:
    """Name of the violated constraint or unique index."""
    diag = getattr(error.orig, "diag", None)
    return getattr(diag, "constraint_name", None)


def _unavailable(error: Exception) -> CatalogUnavailable:
    if isinstance(error, DBAPIError) and sqlstate(error) == _LOCK_NOT_AVAILABLE:
        return CatalogUnavailable(
            "Another process holds this part of the catalog.", next_step="Wait for it to finish and try again."
        )
    return CatalogUnavailable(
        "The catalog's database does not answer.",
        next_step="Start it with `explorer up`, then try again; `explorer doctor` says more.",
    )
