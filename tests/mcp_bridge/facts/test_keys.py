"""The key columns of a table: those of its plan, what dbt tests, else PostgreSQL's primary key."""

import pytest

from explorer.providers import provider_named
from explorer.registry import load_pipelines
from explorer.tables.values import TableSpec
from mcp_bridge.facts.keys import key_of
from mcp_bridge.facts.pipelines import PipelineFiles
from mcp_bridge.facts.relations import Column
from mcp_bridge.facts.table_facts import Provenance, TableFacts
from mcp_bridge.facts.tables import TenantTables
from tests.explorer.registry.test_semantics import PIPELINES

COMMCARE = provider_named("commcare")
PIPELINE = load_pipelines(PIPELINES)["commcare_sync"]
FILES = PipelineFiles({PIPELINE.name: PIPELINE}, {}, {PIPELINE.name: {"form_activity": ("day", "form_name")}})


def key(
    kind: str, *names: str, name: str = "some", primary: str | None = None, path: list[str] | None = None
) -> list[str]:
    columns = [Column(name, c, "text", True, None, c == primary, {"path": path} if path else {}) for c in names]
    facts = TableFacts(name, "s", kind, "", None, None, Provenance(None))
    known = TenantTables(None, None, {}, {}, [PIPELINE])  # type: ignore[arg-type]
    return list(key_of(FILES, known, facts, columns, COMMCARE).get("primary_key", ()))


@pytest.mark.parametrize(
    ("kind", "names", "expected"),
    [
        ("case_type", ("case_id", "dob"), ["case_id"]),
        ("repeat", ("form_id", "repeat_id"), ["repeat_id"]),
        ("form", ("form_id",), ["form_id"]),
        # A key is given only when its columns exist.
        ("form", ("id",), []),
        ("table", ("id",), []),
    ],
)
def test_a_generated_table_has_the_key_of_its_kind(kind: str, names: tuple[str, ...], expected: list[str]) -> None:
    assert key(kind, *names) == expected


@pytest.mark.parametrize("table", COMMCARE.tables.fixed, ids=lambda table: table.name)
def test_a_table_of_records_has_the_key_of_its_plan(table: TableSpec) -> None:
    names = [column.name for column in table.columns]
    assert key("mart", *names, name=table.name) == list(table.key)
    assert set(table.key) <= set(names)


def test_a_mart_has_the_key_that_dbt_tests() -> None:
    assert key("mart", "day", "form_name", "submissions", name="form_activity") == ["day", "form_name"]


def test_a_table_of_unknown_kind_has_the_key_that_only_such_a_table_has() -> None:
    assert key("retired", "form_id", "dob", path=["dob"]) == ["form_id"]
    assert key("table", "case_id", "dob", path=["dob"]) == ["case_id"]


def test_else_the_key_is_postgresqls() -> None:
    assert key("table", "id", "dob", primary="id") == ["id"]
