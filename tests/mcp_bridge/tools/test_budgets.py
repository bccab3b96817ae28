"""No answer costs more than promised for any tenant's tables, and pages lose nothing."""

import random
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from mcp.client import Client

from explorer.catalog import State
from explorer.contract.bookkeeping import columns as kept_columns
from explorer.providers.commcare.structure import App, CaseType, Form, Option, Question, Structure
from explorer.providers.commcare.structure_diff import structure_diff
from explorer.providers.commcare.tables.plan import generate_tables
from explorer.providers.commcare.tables.profile import Profile
from explorer.tables.column_facts import facts_of
from explorer.tables.values import TableSpec
from mcp_bridge.answers.envelope import MAX_ANSWER_TOKENS
from mcp_bridge.answers.tokens import tokens
from tests.mcp_bridge.stage import Stage, envelope, on_http

KEY = "demo:hostile"
MANY = 70
_DICE = random.Random(11)


def _ids() -> str:
    return str(uuid.UUID(int=_DICE.getrandbits(128)))


# Texts of about 300 characters, each of another kind.
TEXTS: dict[str, Callable[[], str]] = {
    "ids": lambda: " ".join(_ids() for _ in range(8)),
    "hex": lambda: f"{_DICE.getrandbits(1200):x}",
    "amharic": lambda: "የእናት ስም እና የትውልድ ቀን ይጻፉ። ጤና ጣቢያ ውስጥ ክትባት ተሰጥቷል። " * 6,
    "nepali": lambda: "मेरो नाम सीता हो। म काठमाडौंमा बस्छु र मेरो छोरी पाँच वर्षकी भइन्। " * 5,
    "emoji": lambda: "👩‍👩‍👧‍👦🩺🛗🪬🇳🇵" * 20,
    "signs": lambda: '\\"{}[]<>|~^\x01\x02' * 20,
}


def form(kind: str, text: Callable[[], str], questions: int) -> Form:
    def question(number: int) -> Question:
        options = tuple(
            Option(_ids(), text(), {"fr": text(), "am": text()}) for _ in range(25 if number % 90 == 0 else 0)
        )
        # A path as long as names of columns may be.
        path = ("g" * 30, f"question_{number:04}_{'x' * 40}")
        translations = {"fr": text(), "am": text(), "hi": text()} if number % 5 == 0 else {}
        return Question(path, text(), "Select" if options else "Text", translations, options)

    listed = tuple(question(number) for number in range(questions))
    return Form(f"http://openrosa.org/{kind}/{text()[:60]}", {"en": text()}, text(), "a", text(), text(), None, listed)


@pytest.fixture(scope="module")
def token(stage: Stage) -> str:
    """A tenant with a form for each kind of text, of up to 780 questions, many small tables, and long words everywhere."""
    tenant = stage.tenants[KEY]
    schema, login = stage.catalog.schemas.get(tenant), stage.catalog.schemas.rw_login(tenant)
    forms = [form(kind, text, 440 if kind == "nepali" else 60) for kind, text in TEXTS.items()]
    forms.append(form("widest", TEXTS["amharic"], 780))
    tables = generate_tables(Structure((), (), tuple(forms)), Profile(), taken=())
    connections = stage.connections
    with connections.tenant(login.user, login.password).connect(autocommit=True) as connection:
        for table in tables:
            for statement in _statements(schema.marts, table):
                connection.execute(statement.encode())
        for number in range(MANY):
            text = TEXTS["nepali"]().replace("'", "")
            name = f'{schema.marts}."case_{number:03}_{"y" * 40}"'
            connection.execute(f"CREATE TABLE {name} (case_id text)".encode())
            connection.execute(f"COMMENT ON TABLE {name} IS '{text}{text}'".encode())
        kept_columns.write(connection, schema, facts_of(tables))
    words = [TEXTS["amharic"]() for _ in range(60)]
    structure = Structure(
        tuple(App(_ids(), word, 1, ()) for word in words),
        tuple(CaseType(word[:40] + str(i), (), ()) for i, word in enumerate(words)),
        (),
    )
    stage.catalog.discovered.save(tenant, structure.to_dict(), "run-0", diff=structure_diff)
    stage.catalog.discovered.save(
        tenant, Structure(structure.apps[:30], (), tuple(forms)).to_dict(), "run-1", diff=structure_diff
    )
    stage.catalog.schemas.transition(tenant, {State.ACTIVE}, State.MATERIALIZING, run_id="run-1")
    stage.catalog.schemas.transition(
        tenant, {State.MATERIALIZING}, State.ACTIVE, run_id="run-1", error=TEXTS["amharic"]() * 8
    )
    return stage.token("agent-hostile", KEY)


def _statements(marts: str, table: TableSpec) -> list[str]:
    name = f'{marts}."{table.name}"'
    columns = [f'"{column.name}" {column.type}' for column in table.columns]
    text = next((make for kind, make in TEXTS.items() if kind in table.source), TEXTS["hex"])
    # A row holds no more than its page has room for, so few of very many columns have a value.
    filled = [c for c in table.columns if c.type == "text"][:: 1 + len(columns) // 100]
    values = ", ".join("'" + text()[:150].replace("'", "").replace("\x01", "") + "'" for _ in filled)
    names = ", ".join(f'"{column.name}"' for column in filled)
    about = table.description.replace("'", "")
    comments = [
        f'COMMENT ON COLUMN {name}."{column.name}" IS \''
        + column.description.replace("'", "").replace("\x01", "")
        + "'"
        for column in table.columns[::30]
    ]
    return [
        f"CREATE TABLE {name} ({', '.join(columns)})",
        *[f"INSERT INTO {name} ({names}) VALUES ({values})"] * 12,
        f"COMMENT ON TABLE {name} IS '" + about.replace("\x01", "") + "'",
        f"ANALYZE {name}",
        *comments,
    ]


async def within(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """The data of an answer, which costs no more than is promised."""
    result = await client.call_tool(tool, arguments)
    content = envelope(result)
    assert content["success"], content
    assert tokens(result.content[0].text) <= MAX_ANSWER_TOKENS, (tool, arguments)  # type: ignore[union-attr]
    data: dict[str, Any] = content["data"]
    return data


async def all_pages(
    client: Client, tool: str, rows: str, changing: Sequence[dict[str, Any]] = ({},), **arguments: Any
) -> list[dict[str, Any]]:
    """The answers up to the last page; each page is asked for with the next of the `changing` arguments."""
    pages: list[dict[str, Any]] = []
    cursor: dict[str, Any] = {}
    while True:
        pages.append(await within(client, tool, **arguments, **changing[len(pages) % len(changing)], **cursor))
        assert pages[-1][rows]
        if pages[-1]["next_cursor"] is None:
            return pages
        cursor = {"cursor": pages[-1]["next_cursor"]}
        assert len(pages) < 400


@pytest.mark.parametrize("response_format", ["concise", "detailed"])
def test_a_table_of_any_width_is_described_within_the_promise_page_by_page(
    bridge_url: str, token: str, response_format: str
) -> None:
    async def work(client: Client) -> None:
        listed = await all_pages(client, "list_tables", "tables", search="form_")
        names = [table["name"] for page in listed for table in page["tables"] if table["name"].startswith("form_")]
        assert len(names) >= len(TEXTS) + 1
        for number, name in enumerate(names[:: 1 if response_format == "concise" else 4]):
            limit = (200, 30, 100)[number % 3]
            pages = await all_pages(
                client,
                "describe_table",
                "columns",
                table=name,
                limit=limit,
                sample_rows=10,
                response_format=response_format,
            )
            columns = [column["name"] for page in pages for column in page["columns"]]
            assert len(columns) == len(set(columns)) == pages[0]["column_count"]
            assert pages[0]["primary_key"] == ["form_id"]
            for page in pages:
                shown = page["sample"]["columns"]
                assert shown == [column["name"] for column in page["columns"]][: len(shown)]
                assert page["sample"]["rows"]
                assert all(len(row) == len(shown) for row in page["sample"]["rows"])
            assert all("joins" not in page for page in pages[1:])

    on_http(bridge_url, token, work)


@pytest.mark.parametrize("response_format", ["concise", "detailed"])
def test_lists_of_any_words_stay_within_the_promise_and_lose_nothing(
    bridge_url: str, token: str, response_format: str
) -> None:
    async def work(client: Client) -> None:
        for tool in ("list_tables", "get_metadata"):
            pages = await all_pages(client, tool, "tables", response_format=response_format)
            names = [table["name"] for page in pages for table in page["tables"]]
            assert len(names) == len(set(names)) == pages[0]["total"] > MANY

    on_http(bridge_url, token, work)


def test_pages_fit_together_however_much_of_them_is_asked_for(stage: Stage, bridge_url: str, token: str) -> None:
    limits = [{"limit": 50}, {"limit": 7}, {"limit": 23}]
    formats = [{"limit": 50, "response_format": "detailed"}, {"limit": 3}, {"limit": 20, "response_format": "concise"}]
    every = stage.token("agent-everywhere", *stage.tenants)

    async def work(client: Client) -> None:
        for words in ("question 0001", "የእናት", "case_id"):
            pages = await all_pages(client, "search_metadata", "hits", limits, search=words)
            hits = [(hit["table"], hit.get("column")) for page in pages for hit in page["hits"]]
            assert len(hits) == len(set(hits)) == pages[0]["total"] > 50
        for tool in ("list_tables", "get_metadata"):
            pages = await all_pages(client, tool, "tables", formats)
            names = [table["name"] for page in pages for table in page["tables"]]
            assert len(names) == len(set(names)) == pages[0]["total"]

    async def tenants(client: Client) -> None:
        pages = await all_pages(client, "list_tenants", "tenants", [{"limit": 1}, {"limit": 4}, {"limit": 2}])
        assert [tenant["key"] for page in pages for tenant in page["tenants"]] == sorted(stage.tenants)

    on_http(bridge_url, token, work)
    on_http(bridge_url, every, tenants)


def test_everything_else_stays_within_the_promise(stage: Stage, bridge_url: str, token: str) -> None:
    async def work(client: Client) -> None:
        for words in ("question", "የእናት ስም", "मेरो नाम", "case_id", "🩺"):
            first = await within(client, "search_metadata", search=words, limit=50)
            if first["next_cursor"]:
                await within(client, "search_metadata", search=words, limit=50, cursor=first["next_cursor"])
        await within(client, "search_metadata", search="የእናትስምእናየትውልድቀንይጻፉ" * 9)
        status = await within(client, "get_schema_status")
        assert status["structure"]["changes"]
        assert status["last_error"].startswith("የእናት")
        listed = await within(client, "list_tables", search="form_")
        for table in listed["tables"][:3]:
            described = await within(client, "describe_table", table=table["name"])
            await within(client, "get_lineage", table=table["name"], column=described["columns"][-1]["name"])
        for tool in ("list_pipelines", "list_tenants", "list_runs", "set_semantics"):
            await within(client, tool)

    on_http(bridge_url, token, work)


def test_rows_of_any_width_stay_within_the_promise_or_say_what_to_do(bridge_url: str, token: str) -> None:
    async def work(client: Client) -> None:
        for value in (
            "gen_random_uuid()",
            "md5(i::text)",
            "repeat('ስም ', 40)",
            "random()",
            "now()",
            "repeat('🩺', 50)",
            "repeat(chr(1), 40)",
        ):
            sql = f"select i, {value} as v from generate_series(1, 2000) i"
            page = await within(client, "query", sql=sql, limit=5000)
            assert (page["rows"][0][0], page["truncated"]) == (1, True)
            following = await within(client, "query", sql=sql, limit=5000, cursor=page["next_cursor"])
            assert following["rows"][0][0] == page["row_count"] + 1
        wide = ", ".join(f"md5('{n}') as a_column_with_a_name_{n}" for n in range(60))
        assert len((await within(client, "query", sql=f"select {wide}"))["rows"][0]) == 60
        long = ", ".join(f"repeat('ስም ', 900) as v{n}" for n in range(20))
        result = await client.call_tool("query", {"sql": f"select {long}"})
        data = envelope(result)["data"]
        assert len(data["rows"][0]) == 20
        assert any("cells were too long" in warning for warning in envelope(result)["warnings"])
        wider = ", ".join(f"{n} as a_column_{n}" for n in range(600))
        error = envelope(await client.call_tool("query", {"sql": f"select {wider}"}))["error"]
        assert (error["code"], error["details"]) == ("result_too_wide", {"columns": 600})
        whole = envelope(await client.call_tool("query", {"sql": f"select {wider}", "response_format": "detailed"}))
        assert len(whole["data"]["rows"][0]) == 600

    on_http(bridge_url, token, work)
