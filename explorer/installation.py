"""What must exist before anything can run? The database server, its roles and databases, the catalog's tables, the key.

`set_up` makes all of it; only `explorer up` and `explorer db upgrade` call it. Every other process calls `prepare`, which makes
nothing: a worker with an empty HOME would otherwise give the logins passwords that nobody else knows.
"""

from explorer.catalog import Catalog, CatalogUnavailable, Keyring, migrate
from explorer.core.home import keep_private, make_home
from explorer.core.settings import Settings
from explorer.postgres.bootstrap import ensure_database
from explorer.postgres.connections import Connections, is_external, load_connections
from explorer.postgres.embedded import EmbeddedPostgres, embedded_from


def set_up(settings: Settings, *, server: EmbeddedPostgres | None = None, take_over: bool = False) -> Connections:
    """Start the embedded server if needed, set it up and upgrade the catalog; quick when all is done.

    An installation of another HOME stays unchanged unless `take_over` is set: then its logins get new passwords, and a missing
    key is made, although stored values were encrypted with another. Safe to call from several processes.

    Raises:
        DatabaseOwnedElsewhere: another HOME set the database up.
        KeyringMissing: the catalog holds secrets, but this HOME has no key.
        The other typed errors of `postgres` and `catalog`.
    """
    make_home(settings.home)
    keep_private(settings.home)
    connections = ensure_database(settings, server=server, take_over=take_over)
    migrate(connections)
    if take_over or not _holds_secrets(connections):
        Keyring.make(settings)
    Keyring.load(settings)
    return connections


def prepare(settings: Settings) -> Connections:
    """The logins of an installation; starts its embedded server if needed, and makes nothing.

    Raises:
        DatabaseNotReady: nothing is set up under HOME. The error says what is missing and which command sets it up.
        CatalogNotReady: the catalog is of another version than this program.
        KeyringMissing, KeyringInvalid, CatalogUnavailable, PostgresNotStartable.
    """
    connections = load_connections(settings)
    try:
        with Catalog.open(settings):
            return connections
    except CatalogUnavailable:
        # An embedded server beside an external one that is away for a moment would be an empty installation.
        if is_external(settings) or embedded_from(settings).is_running():
            raise
    embedded_from(settings).start()
    with Catalog.open(settings):
        return load_connections(settings)


def _holds_secrets(connections: Connections) -> bool:
    with connections.catalog.connect() as conn:
        row = conn.execute(
            "SELECT EXISTS (SELECT FROM catalog.credentials WHERE ciphertext IS NOT NULL)"
            " OR EXISTS (SELECT FROM catalog.schemas WHERE passwords IS NOT NULL)"
        ).fetchone()
    return row == (True,)
