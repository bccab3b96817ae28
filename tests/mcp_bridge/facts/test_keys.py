"""The key columns of a table: declared ones, those of the table's kind, else PostgreSQL's primary key."""

import pytest

from explorer.providers import provider_named
from explorer.registry import load_pipelines
from mcp_bridge.facts.keys import key_of
from mcp_bridge.facts.pipelines import PipelineFiles
from mcp_bridge.facts.relations import Column
from mcp_bridge.facts.table_facts import TableFacts
from mcp_bridge.facts.tables import TenantTables
from tests.explorer.registry.test_semantics import PIPELINES

KEY_BY_KIND = provider_named("commcare").tables.key_by_kind
PIPELINE = load_pipelines(PIPELINES)["commcare_sync"]
FILES = PipelineFiles({PIPELINE.name: PIPELINE}, {}, {PIPELINE.name: {"form_cases": ("form_id", "case_id")}})


def key(
    kind: str, *names: str, name: str = "some", primary: str | None = None, path: list[str] | None = None
) -> list[str]:
    columns = [Column(name, c, "text", True, None, c == primary, {"path": path} if path else {}) for c in names]
    facts = TableFacts(name, "s", kind, "", None, None, False, None)
    known = TenantTables(None, None, {}, {}, [PIPELINE])  # type: ignore[arg-type]
    return list(key_of(FILES, known, facts, columns, KEY_BY_KIND).get("primary_key", ()))


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


def test_a_static_table_has_the_key_that_dbt_tests() -> None:
    assert key("mart", "form_id", "case_id", "action", name="form_cases") == ["form_id", "case_id"]


def test_a_table_of_unknown_kind_has_the_key_that_only_such_a_table_has() -> None:
    assert key("retired", "form_id", "dob", path=["dob"]) == ["form_id"]
    assert key("table", "case_id", "dob", path=["dob"]) == ["case_id"]


def test_else_the_key_is_postgresqls() -> None:
    assert key("table", "id", "dob", primary="id") == ["id"]
