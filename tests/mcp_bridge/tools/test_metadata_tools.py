"""Metadata for an agent before it writes SQL: statistics, the applications' labels, semantics; and personal data are masked."""

import json
from typing import Any

import pytest
from mcp.client import Client

from explorer.catalog import DEFAULT_SCOPES, State
from explorer.contract.bookkeeping import columns as kept_columns
from explorer.providers.commcare.structure import Form, Option, Question, Structure
from explorer.providers.commcare.tables.plan import generate_tables
from explorer.providers.commcare.tables.profile import Profile
from explorer.tables.column_facts import facts_of
from tests.mcp_bridge.stage import Stage, ask, envelope, on_http, refused

KEY = "demo:words"
TABLES = """
SET search_path = {marts};
CREATE TABLE form_visit (form_id text PRIMARY KEY, case_id text, received_on timestamptz, pain text, weight numeric, seen date,
  mother text, signs text[], notes text);
INSERT INTO form_visit
  SELECT 'f' || i, 'c' || (i % 3 + 1), '2026-01-01T00:00:00Z'::timestamptz + i * interval '1 hour',
         CASE WHEN i % 4 = 0 THEN NULL WHEN i % 4 = 1 THEN 'n' ELSE 'y' END, i / 10.0, '2025-12-31'::date + i,
         'Fatima ' || i % 5, CASE WHEN i % 2 = 0 THEN array['fever', 'cough'] ELSE array['fever'] END, 'note'
    FROM generate_series(1, 400) i;
ANALYZE form_visit;
COMMENT ON TABLE form_visit IS 'One row per submission of the form Home visit (application App, xmlns x).';
COMMENT ON COLUMN form_visit.pain IS 'Are you in pain? (Question of type Select pain.)';
"""
FORM = Form(
    "x", {"en": "Visit"}, "Visit", "a", "App", "Module", None,
    (
        Question(("pain",), "Are you in pain?", "Select", {"fr": "Avez-vous mal à la tête ?", "hi": "क्या दर्द है?"},
                 (Option("y", "Yes", {"hi": "हाँ"}), Option("n", "No"))),
        Question(("mother",), "Nom de la mère", "Text", {}),
        Question(("weight",), "Weight in kg", "Double", {"es": "Peso"}),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def token(stage: Stage) -> str:
    """May do everything with the tenant, whose tables and words are there."""
    tenant = stage.tenants[KEY]
    schema, login = stage.catalog.schemas.get(tenant), stage.catalog.schemas.rw_login(tenant)
    tables = generate_tables(Structure((), (), (FORM,)), Profile(), taken=())
    with stage.connections.tenant(login.user, login.password).connect(autocommit=True) as connection:
        connection.execute(TABLES.format(marts=schema.marts).encode())
        kept_columns.write(connection, schema, facts_of(tables))
    return stage.token("agent-words", KEY)


def described(url: str, token: str, **arguments: Any) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    async def work(client: Client) -> dict[str, Any]:
        return await ask(client, "describe_table", **arguments)

    data = on_http(url, token, work)
    return data, {column["name"]: column for column in data["columns"]}


def test_columns_carry_words_options_and_what_postgres_knows(bridge_url: str, token: str) -> None:
    data, columns = described(bridge_url, token, table="form_visit")
    pain = columns["pain"]
    assert (pain["label"], pain["options"]) == ("Are you in pain?", "y=Yes; n=No")
    assert (pain["null_share"], pain["distinct"], pain["common"]) == (0.25, 2, [["y", 0.5], ["n", 0.25]])
    assert (columns["weight"]["min"], columns["weight"]["max"]) == ("0.1", "40")
    assert (columns["seen"]["min"], columns["seen"]["max"]) == ("2026-01-01", "2027-02-04")
    assert columns["signs"]["common"][0] == ["fever", 1.0]
    assert columns["form_id"]["nullable"] is False
    assert "nullable" not in columns["pain"]
    assert data["column_count"] == len(columns) == 9
    assert "statistics" not in data

    _, detailed = described(bridge_url, token, table="form_visit", response_format="detailed")
    assert detailed["pain"]["path"] == "pain"
    assert detailed["pain"]["translations"]["hi"] == "क्या दर्द है?"
    assert detailed["pain"]["options"][0]["translations"] == {"hi": "हाँ"}
    assert detailed["pain"]["description"].startswith("Are you in pain?")


def test_personal_data_are_masked_in_samples_and_statistics_and_marked(bridge_url: str, token: str) -> None:
    data, columns = described(bridge_url, token, table="form_visit")
    assert columns["mother"]["pii"] == "Name."
    assert {"common", "min", "max"}.isdisjoint(columns["mother"])
    assert columns["mother"]["distinct"] == 5
    assert "Fatima" not in json.dumps(data)
    place = data["sample"]["columns"].index("mother")
    assert [row[place] for row in data["sample"]["rows"]] == ["***"] * 3
    assert "masked" in data["sample"]["note"]
    cases, columns = described(bridge_url, token, table="cases", response_format="detailed")
    assert columns["case_name"]["pii"]
    assert "Asha" not in json.dumps(cases)

    async def work(client: Client) -> Any:
        return (await ask(client, "query", sql="select min(mother), min(case_name) from form_visit, cases"))["rows"]

    assert on_http(bridge_url, token, work) == [["Fatima 0", "Asha"]]


def test_the_semantic_layer_is_in_the_answers(bridge_url: str, token: str) -> None:
    async def work(client: Client) -> None:
        tables = {table["name"]: table for table in (await ask(client, "list_tables"))["tables"]}
        assert tables["cases"]["entity"] == "case"
        cases = await ask(client, "describe_table", table="cases", sample_rows=0)
        assert cases["entity"]["key"] == "case_id"
        assert "beneficiary" in cases["synonyms"]
        metadata = await ask(client, "get_metadata")
        assert {entity["table"] for entity in metadata["entities"]} == {"cases", "users"}
        # The pipeline's example over forms and locations reads tables that this tenant does not have.
        assert [e["sql"] for e in metadata["examples"] if " forms" in e["sql"]] == []
        assert any(entity["name"] == "case" for entity in metadata["entities"])
        assert [join.partition(" (")[0] for join in metadata["relationships"]] == ["cases.owner_id = users.user_id"]

    on_http(bridge_url, token, work)


@pytest.mark.parametrize(
    ("question", "table", "column", "found_in"),
    [
        ("PAIN", "form_visit", "pain", "name"),
        ("mal a la tete", "form_visit", "pain", "label (fr)"),
        ("दर्द", "form_visit", "pain", "label (hi)"),
        ("हाँ", "form_visit", "pain", "option y"),
        ("nom mere", "form_visit", "mother", "label"),
        ("peso", "form_visit", "weight", "label (es)"),
        ("bénéficiaire", "cases", None, "synonym"),
        ("लाभार्थी", "cases", None, "synonym"),
        ("enrolled", "cases", "date_opened", "synonym"),
        ("home visit", "form_visit", None, "name"),
    ],
)
def test_words_of_any_language_lead_to_the_place(
    bridge_url: str, token: str, question: str, table: str, column: str | None, found_in: str
) -> None:
    async def work(client: Client) -> dict[str, Any]:
        return await ask(client, "search_metadata", search=question)

    data = on_http(bridge_url, token, work)
    best = data["hits"][0]
    assert (best["table"], best.get("column"), best["found_in"]) == (table, column, found_in)
    assert data["next_calls"][0]["tool"] == "describe_table"
    assert data["next_calls"][0]["arguments"]["table"] == table


def test_hits_go_on_by_cursor_and_each_comes_once(bridge_url: str, token: str) -> None:
    async def work(client: Client) -> None:
        whole = await ask(client, "search_metadata", search="case id", limit=50)
        assert whole["total"] == len(whole["hits"]) > 4
        assert whole["hits"][0].get("words_found") is None
        seen: list[Any] = []
        cursor = None
        while True:
            page = await ask(
                client, "search_metadata", search="case id", limit=2, **({"cursor": cursor} if cursor else {})
            )
            seen += page["hits"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert seen == whole["hits"]
        assert (await refused(client, "search_metadata", search="x", cursor="nonsense"))["code"] == "invalid_cursor"
        nothing = await ask(client, "search_metadata", search="wieght")
        assert (nothing["hits"], nothing["did_you_mean"][0]) == ([], "weight")
        assert (await ask(client, "search_metadata", search="%_'\"\\ ;"))["hits"] == []

    on_http(bridge_url, token, work)


OVERLAY = {
    "entities": [{"name": "visit", "table": "form_visit", "key": "form_id", "description": "A visit.", "synonyms": ["गृह भेंट"]}],
    "measures": [{"name": "painful", "table": "form_visit", "sql": "count(*) FILTER (WHERE pain = 'y')", "description": "Pain."}],
    "synonyms": [{"table": "form_visit", "column": "notes", "words": ["Bemerkung"]}],
    "personal_data": [{"table": "form_visit", "column": "notes", "why": "Free text."}, {"column": "mother", "pii": False}],
    "examples": [{"question": "How heavy?", "sql": "select avg(weight) from form_visit"}],
}  # fmt: skip


def test_an_admins_words_are_in_force_at_once_and_leave_when_taken_away(
    stage: Stage, bridge_url: str, token: str
) -> None:
    async def work(client: Client) -> None:
        before = await ask(client, "set_semantics")
        assert (before["changed"], before["version"], before["overlay"]) == (False, 0, {})
        assert before["pipeline"]["entities"]
        saved = await ask(client, "set_semantics", semantics=OVERLAY)
        assert (saved["changed"], saved["version"], saved["overlay"]) == (True, 1, OVERLAY)
        assert not (await ask(client, "set_semantics", semantics=OVERLAY))["changed"]
        data = await ask(client, "describe_table", table="form_visit")
        columns = {column["name"]: column for column in data["columns"]}
        assert columns["notes"]["pii"] == "Free text."
        assert "pii" not in columns["mother"]
        assert columns["mother"]["common"]
        assert data["entity"]["name"] == "visit"
        assert data["examples"] == OVERLAY["examples"]
        assert (await ask(client, "query", sql=data["measures"][0]["sql"]))["rows"] == [[200]]
        assert (await ask(client, "search_metadata", search="bemerkung"))["hits"][0]["column"] == "notes"
        assert (await ask(client, "search_metadata", search="भेंट"))["hits"][0]["table"] == "form_visit"
        taken = await ask(client, "set_semantics", semantics={})
        assert (taken["version"], taken["overlay"]) == (2, {})
        data = await ask(client, "describe_table", table="form_visit")
        assert {c["name"]: c.get("pii") for c in data["columns"]}["mother"] == "Name."

    on_http(bridge_url, token, work)
    written = [r.entry for r in stage.catalog.audit.read(actor="agent-words") if r.entry.action == "set_semantics"]
    assert [entry.detail["version"] for entry in written if "version" in entry.detail] == [2, 1, 1]


@pytest.mark.parametrize(
    ("semantics", "said"),
    [
        ({"entity": []}, "entity"),
        ({"entities": [OVERLAY["entities"][0] | {"table": "form_vist"}]}, "did you mean 'form_visit'"),
        ({"synonyms": [{"table": "form_visit", "column": "note", "words": ["x"]}]}, "did you mean 'notes'"),
        ({"examples": [{"question": "q", "sql": "delete from cases"}]}, "examples.0"),
        ({"examples": [{"question": "q", "sql": "select * from pg_catalog.pg_class"}]}, "examples.0"),
        ({"examples": [{"question": "q", "sql": "select heaviness from form_visit"}]}, "heaviness"),
        ({"measures": [{"name": "m", "table": "cases", "sql": "pg_sleep(9)", "description": "d"}]}, "measures.m"),
        ({"synonyms": [{"table": "cases", "words": ["x" * 80] * 50}] * 6}, "longer than"),
    ],
)
def test_what_would_not_work_is_refused_and_changes_nothing(
    bridge_url: str, token: str, semantics: dict[str, Any], said: str
) -> None:
    async def work(client: Client) -> None:
        before = await ask(client, "set_semantics")
        error = await refused(client, "set_semantics", semantics=semantics)
        assert error["code"] == "semantics_invalid"
        assert said in error["message"]
        assert (await ask(client, "set_semantics"))["version"] == before["version"]

    on_http(bridge_url, token, work)


def test_only_admins_change_the_meaning(stage: Stage, bridge_url: str, token: str) -> None:
    reader = stage.token("reader-of-words", KEY, scopes=set(DEFAULT_SCOPES))

    async def work(client: Client) -> None:
        assert "set_semantics" not in {tool.name for tool in (await client.list_tools()).tools}
        assert (await refused(client, "set_semantics", semantics={}))["code"] == "scope_missing"
        assert (await refused(client, "set_semantics"))["code"] == "scope_missing"

    on_http(bridge_url, reader, work)


def test_another_tenants_overlay_and_tables_stay_its_own(stage: Stage, bridge_url: str, token: str) -> None:
    other = stage.token("other-than-words", "demo:one")

    async def work(client: Client) -> None:
        hits = (await ask(client, "search_metadata", search="pain"))["hits"]
        assert "form_visit" not in {hit["table"] for hit in hits}
        assert (await refused(client, "describe_table", table="form_visit"))["code"] == "unknown_table"
        assert (await refused(client, "search_metadata", tenant=KEY, search="pain"))["code"] == "unknown_tenant"

    on_http(bridge_url, other, work)


def test_what_is_kept_gives_way_when_a_run_has_written(stage: Stage, bridge_url: str, token: str) -> None:
    """A run marks the schemas while it writes them and lets go of them at its end: both are seen by the next call."""
    tenant = stage.tenants[KEY]
    login, marts = stage.catalog.schemas.rw_login(tenant), stage.catalog.schemas.get(tenant).marts
    connections = stage.connections

    async def names(client: Client) -> set[str]:
        return {table["name"] for table in (await ask(client, "list_tables"))["tables"]}

    assert "case_new" not in on_http(bridge_url, token, names)
    stage.catalog.schemas.transition(tenant, {State.ACTIVE}, State.MATERIALIZING, run_id="run-of-words")
    with connections.tenant(login.user, login.password).connect() as connection:
        connection.execute(f"CREATE TABLE {marts}.case_new (case_id text)".encode())
    stage.catalog.schemas.transition(tenant, {State.MATERIALIZING}, State.ACTIVE, run_id="run-of-words")
    assert "case_new" in on_http(bridge_url, token, names)


def test_an_overview_of_a_hundred_tables_fits_one_answer(stage: Stage, bridge_url: str, token: str) -> None:
    tenant = stage.tenants["demo:crowded"]
    login, marts = stage.catalog.schemas.rw_login(tenant), stage.catalog.schemas.get(tenant).marts
    columns = ", ".join(f"property_number_{i} {'date' if i % 5 else 'text'}" for i in range(30))
    connections = stage.connections
    with connections.tenant(login.user, login.password).connect() as connection:
        for number in range(100):
            connection.execute(
                f"CREATE TABLE {marts}.form_{number:03}_गर्भ (form_id text, own_{number} text, {columns})".encode()
            )
    stage.written("demo:crowded", "run-of-a-hundred")
    crowded = stage.token("crowded", "demo:crowded")

    async def work(client: Client) -> None:
        result = await client.call_tool("get_metadata", {})
        data = envelope(result)["data"]
        assert len(result.content[0].text) / 3.5 <= 8000  # type: ignore[union-attr]
        assert (len(data["tables"]), data["total"]) == (100, 103)
        assert data["next_cursor"]
        assert all(table["columns"] for table in data["tables"])
        assert any("more" in table["columns"] for table in data["tables"])
        few = await ask(client, "get_metadata", limit=5)
        assert "more" not in few["tables"][0]["columns"]
        rest = await ask(client, "get_metadata", cursor=data["next_cursor"])
        assert len(rest["tables"]) == 3

    on_http(bridge_url, crowded, work)
