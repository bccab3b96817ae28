"""How does each process log in? One login per duty, read from HOME and the settings.

Reads only. `bootstrap.ensure_database` starts the server and makes the logins.
"""

import os
import select
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict

from explorer.core.errors import SettingsInvalid
from explorer.core.settings import Settings
from explorer.postgres.errors import DatabaseNotReady, DatabaseUnreachable, LoginMissing
from explorer.postgres.state import SUPERUSER, ConnectionRecord, read_record, socket_folder, socket_path

EXPLORER_DB = "explorer"
DAGSTER_DB = "dagster"
# In the explorer database: functions that convert texts to typed values.
CASTS_SCHEMA = "casts"
CATALOG_ROLE = "explorer_catalog"
SERVICE_ROLE = "explorer_service"
DAGSTER_ROLE = "dagster"
SERVICE_LOGINS = (CATALOG_ROLE, SERVICE_ROLE, DAGSTER_ROLE)
CONNECT_TIMEOUT_S = 10
_SETTING_OF = {
    CATALOG_ROLE: "EXPLORER_CATALOG_OWNER_URL",
    SERVICE_ROLE: "EXPLORER_CATALOG_URL",
    DAGSTER_ROLE: "EXPLORER_DAGSTER_DATABASE_URL",
}
# Such a password is given to the server with one iteration of its hash, as if it were one of our own.
_PASSWORD_LENGTH = 24

Connection = psycopg.Connection[tuple[Any, ...]]


def is_alive(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
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
            # A server that was made without an encoding (SQL_ASCII, as by LC_ALL=C) would give names as bytes.
            return psycopg.connect(**{"client_encoding": "UTF8", **self.conninfo()}, autocommit=autocommit)
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
    """The platform's logins. `service` reads and writes the catalog as the migrations allow; every process has it. `more`: those
    of the others that this process has, by name.
    """

    service: Login
    more: Mapping[str, Login] = field(default_factory=dict)

    @property
    def admin(self) -> Login:
        """Makes databases, roles and schemas, and never runs SQL of agents or authors. Raises: LoginMissing."""
        return self._given("admin", "EXPLORER_DATABASE_URL")

    @property
    def catalog(self) -> Login:
        """Owns schema catalog, and migrates it. Raises: LoginMissing."""
        return self._given("catalog", "EXPLORER_CATALOG_OWNER_URL")

    @property
    def dagster(self) -> Login:
        """Owns Dagster's database. Raises: LoginMissing."""
        return self._given("dagster", "EXPLORER_DAGSTER_DATABASE_URL")

    def _given(self, name: str, source: str) -> Login:
        login = self.more.get(name)
        if login is None:
            raise LoginMissing(
                f"This process was not given the {name} login, which only few processes need.",
                next_step=f"Do it where the installation's HOME and settings are, or give this process {source}.",
            )
        return login

    def tenant(self, role: str, password: str) -> Login:
        """The login of a tenant's role in the explorer database."""
        return self.service.to(user=role, password=password)


def is_external(settings: Settings) -> bool:
    """Whether the database's server is another one than the embedded one of HOME: as the settings say, or as HOME was set up."""
    if settings.database_url is not None or settings.catalog_url is not None:
        return True
    record = read_record(settings.home)
    return record is not None and record.mode == "external"


def over_socket(connections: Connections, home: Path) -> Connections:
    """The same with `service` over the Unix socket of HOME's embedded server, where this process reaches it. It takes half as
    long as loopback TCP there and back, and much less CPU on both sides. For psycopg only."""
    record = read_record(home)
    if record is None or record.mode != "embedded" or record.cluster_dir is None:
        return connections
    folder = socket_folder(record.cluster_dir, record.port)
    if folder is None or not os.access(socket_path(folder, record.port), os.W_OK):
        return connections
    return replace(connections, service=replace(connections.service, host=str(folder)))


def load_connections(settings: Settings) -> Connections:
    """The logins of EXPLORER_CATALOG_URL and of the settings beside it, if that one is set; else those recorded under HOME.
    Reads only.

    Raises:
        DatabaseNotReady: nothing was set up yet, or with other settings.
        SettingsInvalid: one of the URLs cannot be read.
    """
    if settings.catalog_url is not None:
        service = _parse_url("EXPLORER_CATALOG_URL", settings.catalog_url.get_secret_value(), EXPLORER_DB)
        more = {}
        if settings.database_url is not None:
            more["admin"] = replace(parse_admin_url(settings.database_url.get_secret_value()), dbname=EXPLORER_DB)
        if settings.catalog_owner_url is not None:
            url = settings.catalog_owner_url.get_secret_value()
            more["catalog"] = _parse_url("EXPLORER_CATALOG_OWNER_URL", url, EXPLORER_DB)
        if settings.dagster_database_url is not None:
            url = settings.dagster_database_url.get_secret_value()
            more["dagster"] = _parse_url("EXPLORER_DAGSTER_DATABASE_URL", url, DAGSTER_DB)
        return Connections(service, more)
    record = read_record(settings.home)
    if record is None or not all(record.roles.get(role) for role in SERVICE_LOGINS):
        raise _not_set_up(settings)
    if settings.database_url is None and record.mode == "external" and record.port:
        return connections_from(Login(record.host, record.port, EXPLORER_DB, "", "", record.options), record)
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
        next_step="Bring connection.json and secret.keys (or EXPLORER_SECRET_KEYS) from the HOME that set the database up, or "
        "set EXPLORER_CATALOG_URL and EXPLORER_DAGSTER_DATABASE_URL; if none has yet, run `explorer db upgrade`.",
    )


def given_passwords(settings: Settings) -> dict[str, str] | None:
    """The service logins' passwords where settings give them; None when HOME keeps them.

    Raises:
        SettingsInvalid: only some logins are given, under other names, or with passwords that could be guessed.
    """
    if settings.catalog_url is None:
        return None
    connections = load_connections(settings)
    given = {login.user: login for login in (connections.service, *connections.more.values())}
    for role, setting in _SETTING_OF.items():
        login = given.get(role)
        if login is None:
            raise SettingsInvalid(
                f"EXPLORER_CATALOG_URL is set: the logins come from settings. But {setting} does not give that of {role}.",
                next_step=f"Set it to postgresql://{role}:password@host:port/..., in the process that sets the database up.",
            )
        if len(login.password) < _PASSWORD_LENGTH:
            raise SettingsInvalid(
                f"The password in {setting} is shorter than {_PASSWORD_LENGTH} characters.",
                next_step="Take a random one, for instance of `openssl rand -hex 24`: a hash of it is kept on the server.",
            )
    return {role: given[role].password for role in _SETTING_OF}


def connections_from(admin: Login, record: ConnectionRecord) -> Connections:
    """The logins on the server of `admin`, with the passwords of `record`. An `admin` without a user is only the server."""
    more = {
        "catalog": admin.to(user=CATALOG_ROLE, password=record.roles[CATALOG_ROLE], dbname=EXPLORER_DB),
        "dagster": admin.to(user=DAGSTER_ROLE, password=record.roles[DAGSTER_ROLE], dbname=DAGSTER_DB),
    }
    if admin.user:
        more["admin"] = replace(admin, dbname=EXPLORER_DB)
    return Connections(admin.to(user=SERVICE_ROLE, password=record.roles[SERVICE_ROLE], dbname=EXPLORER_DB), more)


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
    return _parse_url("EXPLORER_DATABASE_URL", url, "postgres")


def _parse_url(setting: str, url: str, dbname: str) -> Login:
    scheme, separator, rest = url.partition("://")
    try:
        parts = {
            key: str(value) for key, value in conninfo_to_dict(f"{scheme.partition('+')[0]}{separator}{rest}").items()
        }
        return Login(
            host=parts.pop("host"),
            port=int(parts.pop("port", "5432")),
            dbname=parts.pop("dbname", dbname),
            user=parts.pop("user"),
            password=parts.pop("password", ""),
            options=parts,
        )
    except (psycopg.ProgrammingError, KeyError, ValueError):
        raise SettingsInvalid(
            f"{setting} is not a PostgreSQL URL with host and user.",
            next_step=f"Write it as postgresql://user:password@host:5432/{dbname}.",
        ) from None
