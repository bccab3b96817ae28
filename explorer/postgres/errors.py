"""In which ways can the database be unavailable?"""

from explorer.core.errors import ExplorerError


class PostgresNotStartable(ExplorerError):
    """The embedded server did not start; `details["log"]` holds the last lines of its log."""

    code = "postgres_not_startable"


class PostgresBinariesMissing(PostgresNotStartable):
    """No usable `postgres`, `initdb` and `pg_ctl` were found."""

    code = "postgres_binaries_missing"


class PostgresPortInUse(PostgresNotStartable):
    """Another program uses the port that is configured for the embedded server."""

    code = "postgres_port_in_use"


class PostgresNotOwner(ExplorerError):
    """A process other than the one that started the server asked to stop it."""

    code = "postgres_not_owner"


class DatabaseNotReady(ExplorerError):
    """Nothing was started or set up under this HOME, or its record cannot be read."""

    code = "database_not_ready"


class LoginMissing(DatabaseNotReady):
    """This process was not given the login, because only others need it."""

    code = "login_missing"


class DatabaseUnreachable(ExplorerError):
    """The server does not answer or refuses the login."""

    code = "database_unreachable"


class DatabaseOwnedElsewhere(ExplorerError):
    """Another HOME set up the server and has its secrets; nothing was changed."""

    code = "database_owned_elsewhere"


class DatabaseSetupFailed(ExplorerError):
    """The server answers, but its admin login cannot make databases and roles."""

    code = "database_setup_failed"


class ProvisioningRefused(ExplorerError):
    """A tenant's roles or schemas cannot be made or removed; nothing was changed."""

    code = "provisioning_refused"
