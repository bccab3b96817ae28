"""The lineage of a column: down to the source, up to the question, and the columns that depend on it."""

from typing import Any

import pytest
from mcp.client import Client

from explorer.contract.bookkeeping import columns as kept_columns
from explorer.contract.bookkeeping import lineage
from explorer.contract.bookkeeping.lineage import ColumnLineage, Lineage, Origin
from explorer.providers.commcare.structure import App, CaseType, Form, Option, Question, Structure
from explorer.providers.commcare.structure_diff import structure_diff
from explorer.providers.commcare.tables.plan import CommCareTables, generate_tables
from explorer.providers.commcare.tables.profile import Profile
from explorer.tables.column_facts import facts_of
from explorer.tables.lineage import lineage_of_table
from mcp_bridge.facts.columns.lineage import made_from, used_by
from tests.conftest import PgServer
from tests.mcp_bridge.stage import Stage, ask, on_http, refused

KEY = "demo:lineage"
FIXED = [table for table in CommCareTables.fixed if table.name in ("cases", "forms")]
# As if a mart of dbt were called so.
MART: Lineage = {"users": {"username": ColumnLineage((), "'x'")}}
BORN = Question(("g", "dob"), "When was the child born?", "Date", {"fr": "Date de naissance"})
SIGNS = Question(("signs",), "Danger signs?", "MSelect", {}, (Option("fever", "Fever"),))
FORMS = (
    Form(
        "http://x", {"en": "Enrol"}, "Enrol", "a1", "Health", "Children", "child", (BORN, SIGNS), app_ids=("a1", "a2")
    ),
)
STRUCTURE = Structure(
    (App("a1", "Health", 3, ()), App("a2", "Health copy", 1, ())), (CaseType("child", ("dob", "calc"), ("a1",)),), FORMS
)


@pytest.fixture(scope="module")
def token(stage: Stage, pg_server: PgServer) -> str:
    """May ask about a tenant whose runs have left lineage and words of its tables."""
    tenant = stage.tenants[KEY]
    schema, login = stage.catalog.schemas.get(tenant), stage.catalog.schemas.rw_login(tenant)
    tables = [*FIXED, *generate_tables(STRUCTURE, Profile(), taken=("cases", "forms"))]
    of_tables = {table.name: lineage_of_table(table) for table in tables}
    with pg_server.connections.tenant(login.user, login.password).connect(autocommit=True) as connection:
        connection.execute(f"ALTER TABLE {schema.marts}.case_child ADD calc text".encode())
        connection.execute(f"CREATE TABLE {schema.marts}.forms (form_id text, form jsonb)".encode())
        connection.execute(
            f"CREATE TABLE {schema.marts}.form_enrol (form_id text, g__dob date, signs text[], signs__fever boolean)".encode()
        )
        kept_columns.write(connection, schema, facts_of(tables))
        lineage.write(connection, schema, lambda: of_tables, part="tables", version="1")
        lineage.write(connection, schema, lambda: MART, part="models", version="1")
    stage.catalog.discovered.save(tenant, STRUCTURE.to_dict(), diff=structure_diff)
    stage.written(KEY, "run-of-lineage")
    return stage.token("agent-lineage", KEY)


def traced(url: str, token: str, table: str, column: str, **arguments: Any) -> dict[str, Any]:
    async def work(client: Client) -> dict[str, Any]:
        return await ask(client, "get_lineage", table=table, column=column, **arguments)

    return on_http(url, token, work)


def test_a_question_is_traced_down_to_the_source(bridge_url: str, token: str) -> None:
    column = traced(bridge_url, token, "form_enrol", "g__dob")["column"]
    assert column["question"] == {
        "path": "g/dob", "type": "Date", "label": "When was the child born?", "translations": {"fr": "Date de naissance"},
    }  # fmt: skip
    [forms] = column["made_from"]
    [raw] = forms["made_from"]
    assert [(row["table"], row["column"], row["path"]) for row in (forms, raw)] == [
        ("forms", "form", "g/dob"),
        ("raw_forms", "record", "form/g/dob"),
    ]
    assert raw["resource"] == {"name": "forms", "endpoint": "form/v1/"}
    assert column["used_by"] == []
    derived = traced(bridge_url, token, "form_enrol", "signs__fever", direction="upstream")["column"]
    assert (derived["question"]["path"], derived["made_from"][0]["path"]) == ("signs", "signs")
    assert "used_by" not in derived


def test_a_property_is_traced_through_the_case(bridge_url: str, token: str) -> None:
    column = traced(bridge_url, token, "case_child", "dob")["column"]
    # Which case type the table stands for is not recorded beside it, and Dagster has no run of this tenant.
    assert column["property"]["asked_by"] == "unknown"
    [cases] = column["made_from"]
    [raw] = cases["made_from"]
    assert (raw["table"], raw["path"]) == ("raw_cases", "properties/dob")
    key = traced(bridge_url, token, "case_child", "case_id")["column"]
    assert {"property", "question", "index"}.isdisjoint(key)


def test_what_is_made_from_a_column_is_told_with_its_path(bridge_url: str, token: str) -> None:
    data = traced(bridge_url, token, "cases", "case_name")
    assert data["origin"] == {"resources": [{"name": "cases", "endpoint": "case/v2/"}]}
    [child] = data["column"]["used_by"]
    assert (child["table"], child["columns"]) == ("case_child", [{"column": "case_name"}])
    downstream = traced(bridge_url, token, "case_child", "dob", direction="downstream")["column"]
    assert "made_from" not in downstream
    [cases] = used_by({"cases": lineage_of_table(FIXED[0])}, "raw_cases", "record")
    assert cases["table"] == "cases"
    assert {"column": "properties", "path": "properties"} in cases["columns"]


def test_the_unknown_is_said_to_be_unknown(bridge_url: str, token: str) -> None:
    origin = traced(bridge_url, token, "form_enrol", "form_id")
    assert origin["column"]["made_from"][0]["table"] == "forms"
    assert origin["column"]["made_from"][0]["made_from"][0]["table"] == "raw_forms"
    assert traced(bridge_url, token, "users", "user_id")["column"]["made_from"] == "unknown"
    constant = traced(bridge_url, token, "users", "username")["column"]
    assert (constant["made_from"], constant["note"][:26]) == ([], "Computed from no other col")

    async def work(client: Client) -> dict[str, Any]:
        return await refused(client, "get_lineage", table="cases", column="case_nam")

    assert on_http(bridge_url, token, work)["code"] == "unknown_column"


def test_long_answers_say_how_much_they_leave_out() -> None:
    many = ColumnLineage(tuple(Origin("x", f"c{i:03}") for i in range(30)))
    wide: Lineage = {f"t{i:03}": {f"c{j}": ColumnLineage((Origin("x", "c000"),)) for j in range(20)} for i in range(50)}
    rows = made_from({"t": {"c": many}}, {}, "t", "c")
    assert rows is not None
    assert (len(rows), rows[-1]) == (13, {"more": 18})
    below = used_by(wide, "x", "c000")
    assert len(below) == 50
    assert (below[0]["column_count"], len(below[0]["columns"])) == (20, 15)
    # A model that reads itself ends the walk.
    circle: Lineage = {"t": {"c": ColumnLineage((Origin("t", "c"),))}}
    assert used_by(circle, "t", "c") == []
    assert made_from(circle, {}, "t", "c") is not None
