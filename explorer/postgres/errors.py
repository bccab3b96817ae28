"""In which ways the database can refuse to be there."""

from explorer.core.errors import ExplorerError


class PostgresNotStartable(ExplorerError):
    """The embedded server did not come up; `details["log"]` holds its last lines."""

    code = "postgres_not_startable"


class PostgresBinariesMissing(PostgresNotStartable):
    """No usable `postgres`, `initdb` and `pg_ctl` were found."""

    code = "postgres_binaries_missing"


class PostgresPortInUse(PostgresNotStartable):
    """The port that was configured for the embedded server belongs to another program."""

    code = "postgres_port_in_use"


class PostgresNotOwner(ExplorerError):
    """A process other than the one that started the server asked to stop it."""

    code = "postgres_not_owner"


class DatabaseNotReady(ExplorerError):
    """Nothing was started or set up under this HOME yet, or the record of it cannot be read."""

    code = "database_not_ready"


class DatabaseUnreachable(ExplorerError):
    """The server does not answer or refuses the login."""

    code = "database_unreachable"


class DatabaseOwnedElsewhere(ExplorerError):
    """The server was set up by another HOME, whose secrets this one does not have; nothing was changed."""

    code = "database_owned_elsewhere"


class DatabaseSetupFailed(ExplorerError):
    """The server answers, but databases and roles cannot be made with the login it was given."""

    code = "database_setup_failed"


class ProvisioningRefused(ExplorerError):
    """A tenant's roles or schemas cannot be made or removed as asked; nothing was changed."""

    code = "provisioning_refused"
