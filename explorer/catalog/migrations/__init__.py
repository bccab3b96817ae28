"""How the catalog's tables come to be and change: Alembic, run by this program, as the role that owns schema `catalog`.

One version file per change under `versions/`, never edited after release. Rights of the service login are part of the migrations.
"""

from explorer.postgres.connections import Connections


def migrate(connections: Connections) -> None:
    """Bring schema `catalog` to the version of this program; one short query when it is there already.

    Safe to call from several processes at once: one migrates, the others wait and find nothing to do.

    Raises:
        CatalogUnavailable, CatalogNotReady: the database does not answer, or is newer than this program.
    """
    from explorer.catalog.migrations.run import migrate as run

    run(connections)
