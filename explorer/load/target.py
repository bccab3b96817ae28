"""Where does a load write, and is another process loading there?"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from explorer.contract.schemas import TenantSchemas
from explorer.load.errors import LoadFailed, LoadInProgress
from explorer.postgres.connections import Connection, Login


@dataclass(frozen=True)
class LoadTarget:
    """The destination of a tenant's data. `login`: of its rw role, in the platform's database."""

    tenant_key: str
    schemas: TenantSchemas
    login: Login

    def conninfo(self) -> dict[str, Any]:
        """libpq parameters of the login."""
        return self.login.conninfo()

    def connect(self, **more: Any) -> Connection:
        """A connection in autocommit mode, with additional libpq parameters. Raises psycopg.Error."""
        return psycopg.connect(**self.conninfo(), **more, autocommit=True)


@contextmanager
def exclusive(target: LoadTarget) -> Iterator[Connection]:
    """A connection that holds the tenant's load lock. The lock ends with the connection, even when the process is killed.

    Raises:
        LoadInProgress: another process holds it.
        LoadFailed: the database cannot be reached.
    """
    with database_errors(), target.connect() as connection:
        lock = "SELECT pg_try_advisory_lock(hashtext(%s), hashtext('load'))"
        row = connection.execute(lock, [target.schemas.prefix]).fetchone()
        if row != (True,):
            raise LoadInProgress(
                f"Tenant {target.tenant_key} is being loaded by another process.",
                next_step="Wait for that run to end, then try again.",
            )
        yield connection


@contextmanager
def database_errors() -> Iterator[None]:
    """Wraps errors of the database in ours."""
    try:
        yield
    except psycopg.Error as error:
        raise LoadFailed.because_of(error) from error
