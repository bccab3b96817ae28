"""Where does a load write?"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from explorer.contract.schemas import TenantSchemas
from explorer.load.errors import LoadFailed
from explorer.postgres.connections import Connection, Login


@dataclass(frozen=True)
class LoadTarget:
    """The destination of a tenant's data. `login`: of its rw role, in the platform's database."""

    schemas: TenantSchemas
    login: Login

    def conninfo(self) -> dict[str, Any]:
        """libpq parameters of the login."""
        return self.login.conninfo()

    def connect(self, **more: Any) -> Connection:
        """A connection in autocommit mode, with additional libpq parameters. Raises psycopg.Error."""
        return psycopg.connect(**self.conninfo(), **more, autocommit=True)


@contextmanager
def database_errors() -> Iterator[None]:
    """Wraps errors of the database in ours."""
    try:
        yield
    except psycopg.Error as error:
        raise LoadFailed.because_of(error) from error
