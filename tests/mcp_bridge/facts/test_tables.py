"""The facts about a table beside its rows, from Dagster, the loader and the database."""

from datetime import UTC, datetime

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
    """Values that did not fit, changed types, retired tables, records that could not be loaded, runs that failed."""
    tenant = stage.tenants["demo:broken"]
    databases, schema = stage.services().databases, stage.catalog.schemas.get(tenant)
    rw = stage.catalog.schemas.rw_login(tenant)
    assert live_tables(databases, tenant, schema, with_raw=False).rejected == {}
    with stage.connections.tenant(rw.user, rw.password).connect() as connection:
        connection.execute(f"CREATE TABLE {schema.raw}.raw_rejected (resource text, reason text)".encode())
        insert = (
            f"INSERT INTO {schema.raw}.raw_rejected VALUES ('cases', 'no key'), ('cases', 'no key'), ('users', 'x')"
        )
        connection.execute(insert.encode())
    live = live_tables(databases, tenant, schema, with_raw=False)
    raw_key, marts_key = ("commcare", "raw", "cases"), ("commcare", "marts", "cases")
    key = ("commcare", "marts", "case_tables")
    metadata = {
        "tables": [
            {"name": "case_child", "kind": "case_type", "status": "success", "unfit_values": {"dob": 2, "age": 1}}
        ],
        "migrations": [{"table": "case_child", "column": "dob", "before": "bigint", "after": "text"}],
        "retired": [{"name": "users", "since": "2026-01-02", "dropped_after": "2026-04-02"}],
    }
    now = datetime.now(UTC)
    assets = [
        AssetState(raw_key, None, "raw", (), (), (), "run-2", now),
        AssetState(marts_key, None, "marts", (), (raw_key,), (), "run-1", now),
        AssetState(key, None, "marts", (), (raw_key,), (), "run-2", now, Tables.from_metadata(metadata)),
    ]
    known = join(tenant, list(PIPELINES.values()), live, PartitionState({a.key: a for a in assets}, failed_run="run-2"))
    child, cases, users = (known.tables[name] for name in ("case_child", "cases", "users"))
    for told in (child.row(detailed=False), child.source_row()):
        assert (told["unfit_values"], told["type_changes"]) == (3, ["dob: bigint to text"])
        # Told with the mart of that source, and once among the warnings of whatever is made of it.
        assert "records_set_aside" not in told
        assert "last_build_failed" not in told
    assert cases.source_row()["records_set_aside"] == 2
    assert any("2 of cases (no key)" in warning for warning in table_warnings([child]))
    assert cases.source_row()["last_build_failed"] == "not rebuilt"
    assert users.row(detailed=False)["kind"] == "retired"
    assert users.source_row()["retired"] == {"since": "2026-01-02", "dropped_after": "2026-04-02"}
    warnings = "\n".join(table_warnings([child, cases, users]))
    for said in (
        "case_child (3 in dob, age)",
        "case_child.dob: bigint to text",
        "2 of cases (no key)",
        "latest run, the rows are from an earlier one: cases",
        "users (2026-01-02)",
    ):
        assert said in warnings
    assert "1 of users" not in warnings
