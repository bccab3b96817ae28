"""How does each process log in? One login per duty, read from HOME and the settings.

Reads only. `bootstrap.ensure_database` starts the server and makes the logins.
"""

import select
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict

from explorer.core.errors import SettingsInvalid
from explorer.core.settings import Settings
from explorer.postgres.errors import DatabaseNotReady, DatabaseUnreachable
from explorer.postgres.state import SUPERUSER, ConnectionRecord, read_record

EXPLORER_DB = "explorer"
DAGSTER_DB = "dagster"
# In the explorer database: functions that convert texts to typed values.
CASTS_SCHEMA = "casts"
CATALOG_ROLE = "explorer_catalog"
SERVICE_ROLE = "explorer_service"
DAGSTER_ROLE = "dagster"
SERVICE_LOGINS = (CATALOG_ROLE, SERVICE_ROLE, DAGSTER_ROLE)
CONNECT_TIMEOUT_S = 10

Connection = psycopg.Connection[tuple[Any, ...]]


def is_alive(connection: psycopg.Connection[Any]) -> bool:
    """Whether the server has not closed this idle session: a closing server sends a message, so the socket has data. Sends
    nothing."""
    if connection.closed:
        return False
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    return not waiting.poll(0)


@dataclass(frozen=True)
class Login:
    """One login into one database. Its repr and str hide the password."""

    host: str
    port: int
    dbname: str
    user: str
    password: str = field(repr=False)
    # More libpq parameters of an external server, such as sslmode.
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def conninfo(self) -> dict[str, Any]:
        """Keyword arguments for `psycopg.connect` and `psycopg2.connect`, with the password."""
        return {
            "connect_timeout": CONNECT_TIMEOUT_S,
            **self.options,
            "host": self.host,
            "port": self.port,
            "dbname": self.dbname,
            "user": self.user,
            "password": self.password,
        }

    def sqlalchemy_url(self, driver: str = "psycopg2") -> str:
        """`postgresql+<driver>://...`, with the password: never log it."""
        query = f"?{urlencode(self.options)}" if self.options else ""
        return f"postgresql+{driver}://{self._authority()}/{quote(self.dbname, safe='')}{query}"

    def connect(self, *, autocommit: bool = False) -> Connection:
        """A new psycopg 3 connection.

        Raises:
            DatabaseUnreachable: the server does not answer or refuses the login.
        """
        try:
            return psycopg.connect(**self.conninfo(), autocommit=autocommit)
        except psycopg.OperationalError as error:
            # libpq: 'connection to server at "...", port ... failed: FATAL:  reason', details on further lines.
            reason = str(error).partition("failed: ")[2].removeprefix("FATAL:").strip().partition("\n")[0]
            raise DatabaseUnreachable(
                f"No connection to database {self.dbname} at {self.host}:{self.port} as {self.user}: "
                f"{reason or 'no answer'}.",
                next_step="Check with `explorer status` that the database runs; `explorer doctor` says more.",
            ) from None

    def to(self, *, user: str, password: str, dbname: str | None = None) -> "Login":
        """The same server with another login."""
        return replace(self, user=user, password=password, dbname=dbname or self.dbname)

    def _authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else quote(self.host, safe=".")
        return f"{quote(self.user, safe='')}:{quote(self.password, safe='')}@{host}:{self.port}"


@dataclass(frozen=True)
class Connections:
    """The platform's logins.

    `admin` makes databases, roles and schemas and never runs SQL of agents or authors; `catalog` owns schema catalog
    (migrations); `service` reads and writes the catalog as the migrations allow; `dagster` owns Dagster's database.
    """

    admin: Login
    catalog: Login
    service: Login
    dagster: Login

    def tenant(self, role: str, password: str) -> Login:
        """The login of a tenant's role in the explorer database."""
        return self.service.to(user=role, password=password)


def load_connections(settings: Settings) -> Connections:
    """The logins recorded under HOME. Reads only.

    Raises:
        DatabaseNotReady: nothing was set up yet, or with other settings.
        SettingsInvalid: EXPLORER_DATABASE_URL cannot be read.
    """
    record = read_record(settings.home)
    if record is None or not all(record.roles.get(role) for role in SERVICE_LOGINS):
        raise _not_set_up(settings)
    return connections_from(admin_login(settings, record), record)


def _not_set_up(settings: Settings) -> DatabaseNotReady:
    if settings.database_url is None:
        return DatabaseNotReady(
            f"No database is set up under {settings.home}.",
            next_step="Run `explorer up` or `explorer db upgrade` first, or set EXPLORER_HOME to the folder of the installation.",
        )
    return DatabaseNotReady(
        f"{settings.home} lacks connection.json with the logins to the database of EXPLORER_DATABASE_URL, and only "
        "`explorer up` and `explorer db upgrade` make logins.",
        next_step="Bring connection.json and secret.keys (or EXPLORER_SECRET_KEYS) from the HOME that set the database up; "
        "if none has yet, run `explorer db upgrade`.",
    )


def connections_from(admin: Login, record: ConnectionRecord) -> Connections:
    """The four logins on the server of `admin`, with the passwords of `record`."""
    return Connections(
        admin=replace(admin, dbname=EXPLORER_DB),
        catalog=admin.to(user=CATALOG_ROLE, password=record.roles[CATALOG_ROLE], dbname=EXPLORER_DB),
        service=admin.to(user=SERVICE_ROLE, password=record.roles[SERVICE_ROLE], dbname=EXPLORER_DB),
        dagster=admin.to(user=DAGSTER_ROLE, password=record.roles[DAGSTER_ROLE], dbname=DAGSTER_DB),
    )


def admin_login(settings: Settings, record: ConnectionRecord) -> Login:
    """The administrator's login: from EXPLORER_DATABASE_URL when set, else the embedded superuser's."""
    if settings.database_url is not None:
        return parse_admin_url(settings.database_url.get_secret_value())
    if record.mode != "embedded" or not record.password:
        raise DatabaseNotReady(
            f"{settings.home} was set up with an external database, but EXPLORER_DATABASE_URL is not set.",
            next_step="Set EXPLORER_DATABASE_URL, or use another EXPLORER_HOME for the embedded database.",
        )
    return Login(record.host, record.port, "postgres", SUPERUSER, record.password)


def parse_admin_url(url: str) -> Login:
    """The login of `postgresql://user:password@host:port/dbname?sslmode=...` (a SQLAlchemy driver suffix is ignored).

    Raises:
        SettingsInvalid: the URL cannot be read or lacks host or user. The message does not repeat the URL.
    """
    scheme, separator, rest = url.partition("://")
    try:
        parts = {
            key: str(value) for key, value in conninfo_to_dict(f"{scheme.partition('+')[0]}{separator}{rest}").items()
        }
        return Login(
            host=parts.pop("host"),
            port=int(parts.pop("port", "5432")),
            dbname=parts.pop("dbname", "postgres"),
            user=parts.pop("user"),
            password=parts.pop("password", ""),
            options=parts,
        )
    except (psycopg.ProgrammingError, KeyError, ValueError):
        raise SettingsInvalid(
            "EXPLORER_DATABASE_URL is not a PostgreSQL URL with host and user.",
            next_step="Write it as postgresql://user:password@host:5432/postgres.",
        ) from None
