"""A dictionary of a tenant with tables: from what its runs wrote, by the rules that hold for its agents."""

import asyncio
from collections.abc import Iterator

import pytest

from explorer.catalog import PersonalDataPolicy
from explorer.contract.bookkeeping import columns, lineage
from explorer.contract.bookkeeping.builds import Finding
from explorer.contract.bookkeeping.lineage import ColumnLineage, Origin
from explorer.personal_data import set_policy
from mcp_bridge.dictionary.contents import Dictionary
from mcp_bridge.dictionary.csv_rows import as_csv
from mcp_bridge.dictionary.markdown import as_markdown
from mcp_bridge.dictionary.page import as_html
from mcp_bridge.gate.access import Caller
from tests.mcp_bridge.stage import Stage

KEY = "demo:dictionary"
# As the planner writes them beside a table.
FACTS: dict[str, columns.ColumnFacts] = {
    "water": {
        "path": ["water"],
        "question_type": "Select",
        "label": "Source of water",
        "translations": {"en": "Source of water", "fr": "Source d'eau"},
        "options": [{"value": "tap", "label": "Tap", "translations": {"fr": "Robinet"}}, {"value": "well"}],
    },
    "phone": {"path": ["phone"], "question_type": "PhoneNumber", "label": "Telephone"},
    "code": {"path": ["code"], "label": "/data/code"},
}


@pytest.fixture(scope="module")
def tenant(stage: Stage) -> Iterator[str]:
    """Its households, as a run leaves them; many share a telephone."""
    schema, login = (
        stage.catalog.schemas.get(stage.tenants[KEY]),
        stage.catalog.schemas.rw_login(stage.tenants[KEY]),
    )
    with stage.connections.tenant(login.user, login.password).connect(autocommit=True) as connection:
        connection.execute(
            f"create table {schema.marts}.case_household as select 'h' || n as case_id, 'tap' as water,"
            " '0712345678' as phone, n % 3 = 0 as closed, n as members, 'x' || n % 5 as code"
            " from generate_series(1, 100) n".encode()
        )
        connection.execute(f"analyze {schema.marts}.case_household".encode())
        stage.recorded(
            KEY, "run-1", {"case_household": 100, "cases": 3}, case_household=Finding("values_fit", "warn", 4, None)
        )
        columns.write(connection, schema, {"case_household": FACTS})
        made = {"water": ColumnLineage((Origin("cases", "properties", ("water",)),))}
        lineage.write(connection, schema, lambda: {"case_household": made}, part="tables", version="1")
    stage.written(KEY, "run-1")
    yield KEY
    set_policy(stage.settings, stage.catalog, stage.connections, stage.tenants[KEY], None)
    stage.catalog.limits.set(stage.tenants[KEY], {"excluded_tables": None})


def made(stage: Stage) -> Dictionary:
    """The dictionary, as the command line makes it."""

    async def work() -> Dictionary:
        services = stage.services()
        try:
            budget = await services.budgets.admit(Caller.operator(), stage.tenants[KEY])
            policy = budget.limits.personal_data or stage.settings.personal_data
            return await services.dictionaries.of(stage.tenants[KEY], policy)
        finally:
            await services.aclose()

    return asyncio.run(work())


def test_columns_have_their_questions_options_lineage_and_values(stage: Stage, tenant: str) -> None:
    found = made(stage)
    table = next(table for table in found.tables if table.name == "case_household")
    assert (table.rows, table.failing_checks) == (100, ("values_fit (4 found)",))
    of = {column.name: column for column in table.columns}
    water = of["water"]
    assert (water.question, water.translations["fr"], water.question_type) == (
        "Source of water",
        "Source d'eau",
        "Select",
    )
    assert [(each.value, each.label, dict(each.translations)) for each in water.options] == [
        ("tap", "Tap", {"fr": "Robinet"}),
        ("well", "well", {}),
    ]
    assert (water.made_from, water.examples) == (("cases.properties / water",), ("tap",))
    assert of["closed"].examples == ("false", "true")
    assert (of["members"].least, of["members"].greatest, of["members"].examples) == ("1", "100", ())
    # A path is no question, and identifiers are no examples.
    assert (of["code"].question, of["case_id"].examples) == (None, ())
    assert found.languages == ["en", "fr"]


@pytest.mark.parametrize("policy", ["mark", "refuse", "mask"])
def test_no_policy_gives_values_of_personal_columns(stage: Stage, tenant: str, policy: PersonalDataPolicy) -> None:
    set_policy(stage.settings, stage.catalog, stage.connections, stage.tenants[KEY], policy)
    found = made(stage)
    phone = next(
        c for table in found.tables if table.name == "case_household" for c in table.columns if c.name == "phone"
    )
    assert phone.personal
    assert (found.policy, phone.examples, phone.least, phone.distinct) == (policy, (), None, 1)
    for text in (as_html(found), as_markdown(found), as_csv(found)):
        assert "0712345678" not in text
        assert "Asha" not in text
        assert phone.personal in text


def test_tables_that_agents_may_not_read_are_left_out(stage: Stage, tenant: str) -> None:
    assert "users" in {table.name for table in made(stage).tables}
    stage.catalog.limits.set(stage.tenants[KEY], {"excluded_tables": ["users"]})
    assert "users" not in {table.name for table in made(stage).tables}
