"""Would dbt find anything to do for a tenant? Asked without starting it, so that a run without news ends before it."""

from explorer.marts import lineage
from explorer.marts.command import TenantDbt
from explorer.marts.definitions import definitions
from explorer.marts.manifest import Models
from explorer.marts.planning import find_work
from explorer.marts.recording import version_of


def is_current(dbt: TenantDbt, models: Models) -> bool:
    """Whether no model or test is stale, none is to be retired, none is recorded that the project no longer has, and the lineage
    is that of these models.

    Raises:
        psycopg.Error: the connection broke.
    """
    now = definitions(dbt.settings, models)
    with dbt.login.connect(autocommit=True) as connection:
        return not find_work(connection, dbt.schemas, models, now) and lineage.is_written(
            connection, dbt.schemas, version=version_of(now)
        )
