"""How are the catalog's tables made and changed? By Alembic, run by this program as the role that owns schema `catalog`.

One file per change under `versions/`, never edited after release. The service login's rights are part of the migrations.
"""

from explorer.postgres.connections import Connections


def migrate(connections: Connections) -> None:
    """Upgrade schema `catalog` to this program's version; one short query when it is current.

    Safe to call from several processes: one migrates, the others wait.

    Raises:
        CatalogUnavailable, CatalogNotReady: the database does not answer, or is newer than this program.
    """
    from explorer.catalog.migrations.run import migrate as run

    run(connections)
