"""Would an update find anything to do? Asked without changing anything, so that a run without news ends before it."""

from collections.abc import Mapping
from datetime import UTC, datetime

from explorer.contract.bookkeeping import columns as column_records
from explorer.contract.bookkeeping import kinds as kind_records
from explorer.contract.bookkeeping import lineage as lineage_records
from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Login
from explorer.tables.column_facts import facts_of
from explorer.tables.engine import state
from explorer.tables.engine.definition import definitions, kinds_of, lineage_version
from explorer.tables.engine.planning import changed_inputs, is_same
from explorer.tables.engine.retirement import is_due
from explorer.tables.engine.scope import Builds, versions_seen
from explorer.tables.engine.sessions import open_session
from explorer.tables.plan import TablePlan
from explorer.tables.values import TableSpec


def is_current(login: Login, schemas: TenantSchemas, planned: TablePlan) -> bool:
    """Whether every table is as planned, has what its raw tables have, and is checked; what is known of columns is written; and
    nothing is to be reported or retired. In doubt it is not: then `update` finds out.

    Raises:
        DatabaseUnreachable: the server does not answer or refuses the login.
    """
    if planned.type_changes:
        return False
    tables = {table.name: table for table in planned.tables}
    wanted = definitions(tables)
    with open_session(login, schemas) as connection:
        builds = state.builds(connection, schemas)
        versions = state.raw_versions(connection, schemas, {raw for table in tables.values() for raw in table.inputs})
        return (
            all(_has_all(table, wanted[name], builds, versions) for name, table in tables.items())
            and column_records.are_written(connection, schemas, facts_of(planned.tables))
            and kind_records.are_written(connection, schemas, kinds_of(planned.tables))
            and lineage_records.version_of(connection, schemas, part="tables") == lineage_version(wanted)
            and not is_due(connection, schemas, tables.keys(), today=datetime.now(UTC).date())
        )


def _has_all(table: TableSpec, definition: str, builds: Builds, versions: Mapping[str, str]) -> bool:
    build = builds.get(table.name)
    return (
        build is not None
        and is_same(build, definition)
        and table.inputs <= versions.keys()
        and not changed_inputs(table, build, versions)
        and build.checked == versions_seen(table, builds)
    )
