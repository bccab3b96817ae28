"""The facts about a table beside its rows, from its record, the loader, the database and Dagster."""

from dataclasses import replace
from datetime import UTC, datetime

from explorer.catalog import State
from explorer.contract.bookkeeping import builds, kinds, loads
from explorer.contract.bookkeeping.builds import Finding
from explorer.contract.bookkeeping.kinds import TableKind
from explorer.contract.bookkeeping.loads import LoadState
from explorer.contract.materializations import Tables
from explorer.registry import load_pipelines
from mcp_bridge.clients.dagster.records import AssetState
from mcp_bridge.facts.partition_state import PartitionState
from mcp_bridge.facts.relations import live_tables
from mcp_bridge.facts.table_facts import table_warnings
from mcp_bridge.facts.tables import join
from tests.explorer.registry.test_semantics import PIPELINES as FOLDER
from tests.mcp_bridge.stage import Stage

PIPELINES = load_pipelines(FOLDER)


def test_what_is_amiss_with_a_table_is_said_where_it_is_listed_and_read(stage: Stage) -> None:
    """Values that did not fit, changed types, retired tables, records that could not be loaded, tables left behind."""
    tenant = stage.tenants["demo:broken"]
    databases, schema = stage.services().databases, stage.catalog.schemas.get(tenant)
    rw = stage.catalog.schemas.rw_login(tenant)
    assert live_tables(databases, tenant, schema, with_raw=False).rejected == {}
    with stage.connections.tenant(rw.user, rw.password).connect(autocommit=True) as connection:
        connection.execute(f"CREATE TABLE {schema.raw}.raw_rejected (resource text, reason text)".encode())
        insert = (
            f"INSERT INTO {schema.raw}.raw_rejected VALUES ('cases', 'no key'), ('cases', 'no key'), ('users', 'x')"
        )
        connection.execute(insert.encode())
        comment = f"COMMENT ON TABLE {schema.marts}.users IS 'Retired since 2026-01-02: the source is gone. It was: '"
        connection.execute(comment.encode())
        loads.read(connection, schema.raw)
        first, second = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
        loads.write(connection, schema.raw, "cases", "raw_cases", LoadState(None, 3, 0, second), "run-2")
        builds.read(connection, schema)
        # The rows of cases are those of the load before the last one.
        for table, of, run_id in (("cases", first, "run-1"), ("case_child", second, "run-2")):
            made_from = {"raw_cases": f"{of:%Y-%m-%d %H:%M:%S}+00"}
            builds.record(connection, schema, table, definition="", built_from=made_from, run_id=run_id, rows=3)
        unfit = Finding("values_fit", "warn", 3, None, {"dob": 2, "age": 1})
        builds.write_findings(connection, schema, {"case_child": [unfit]}, run_id="run")
        told_by_run = {"case_child": TableKind("case_type", "child"), "cases": TableKind("mart", None)}
        kinds.write(connection, schema, told_by_run)
    live = live_tables(databases, tenant, schema, with_raw=False)
    key = ("commcare", "marts", "case_tables")
    metadata = {
        "tables": [{"name": "case_child", "kind": "of the run", "status": "success"}],
        "migrations": [{"table": "case_child", "column": "dob", "before": "bigint", "after": "text"}],
    }
    asset = AssetState(key, None, "tables", (), (), (), "run-2", datetime.now(UTC), Tables.from_metadata(metadata))
    known = join(tenant, list(PIPELINES.values()), live, PartitionState({key: asset}))
    child, cases, users = (known.tables[name] for name in ("case_child", "cases", "users"))
    for of in (known, join(tenant, list(PIPELINES.values()), live, PartitionState())):
        assert [(of.tables[name].kind, of.tables[name].source) for name in told_by_run] == [
            ("case_type", "child"),
            ("mart", None),
        ]
    for told in (child.row(detailed=False), child.source_row()):
        assert (told["unfit_values"], told["type_changes"]) == (3, ["dob: bigint to text"])
        assert told["failing_checks"] == ["values_fit (3 found)"]
        # Told with the table of that source, and once among the warnings of whatever is made of it.
        assert "records_set_aside" not in told
        assert "last_build_failed" not in told
    assert cases.source_row()["records_set_aside"] == 2
    assert any("2 of cases (no key)" in warning for warning in table_warnings([child]))
    told = cases.source_row()
    assert (told["run_id"], told["last_build_failed"], told["as_of"]) == (
        "run-1",
        "not rebuilt",
        "2026-01-01T00:00:00Z",
    )
    assert (child.freshness, cases.freshness, users.freshness) == ("fresh", "stale", "unknown")
    assert users.row(detailed=False)["kind"] == "retired"
    assert users.source_row()["retired"] == {"since": "2026-01-02", "dropped_after": "2026-04-02"}
    warnings = "\n".join(table_warnings([child, cases, users]))
    for said in (
        "case_child (3 in age, dob)",
        "case_child.dob: bigint to text",
        "2 of cases (no key)",
        "latest run, the rows are of an earlier one: cases",
        "users (2026-01-02)",
    ):
        assert said in warnings
    assert "1 of users" not in warnings
    # While a run is at work, it is only natural.
    working = replace(live, schema=replace(live.schema, state=State.MATERIALIZING))
    at_work = join(tenant, list(PIPELINES.values()), working, PartitionState({key: asset}))
    assert "last_build_failed" not in at_work.tables["cases"].source_row()


def test_a_view_is_of_the_runs_that_filled_its_tables(stage: Stage) -> None:
    """Also where it reads them through a view that agents do not see, and while its own record is older."""
    tenant = stage.tenants["demo:broken"]
    databases, schema = stage.services().databases, stage.catalog.schemas.get(tenant)
    rw = stage.catalog.schemas.rw_login(tenant)
    with stage.connections.tenant(rw.user, rw.password).connect(autocommit=True) as connection:
        connection.execute(f"CREATE VIEW {schema.staging}.seen AS SELECT * FROM {schema.marts}.cases".encode())
        reads = f"SELECT c.*, k.dob FROM {schema.staging}.seen c, {schema.marts}.case_child k"
        connection.execute(f"CREATE VIEW {schema.marts}.overdue AS {reads}".encode())
        builds.read(connection, schema)
        for table, run_id in (("overdue", "run-v"), ("cases", "run-a"), ("case_child", "run-b")):
            builds.record(connection, schema, table, definition="", built_from={}, run_id=run_id, rows=3)
    known = join(
        tenant, list(PIPELINES.values()), live_tables(databases, tenant, schema, with_raw=False), PartitionState()
    )
    told = known.tables["overdue"].source_row()
    assert (told["view_of"], told["run_id"]) == (["case_child", "cases"], "run-b")
    assert known.with_those_of_views(["overdue"]) == ["case_child", "cases", "overdue"]
    assert known.tables["cases"].source_row()["run_id"] == "run-a"
