"""Several tenants in one query, by a real client over HTTP: what it sees, and what leads out of it."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from mcp.client import Client

from explorer.catalog import Scope
from explorer.personal_data import set_policy
from explorer.postgres.provisioning import provision_workspace
from explorer.tenants import provision_schema, teardown_schema
from explorer.workspaces import align
from tests.mcp_bridge.stage import TABLES, Stage, ask, envelope, on_http, refused

NORTH, SOUTH, COAST = KEYS = "demo:ws-north", "demo:ws-south", "demo:ws-coast"
COUNTS = "SELECT tenant, count(*) FROM cases GROUP BY tenant ORDER BY tenant"


def as_owner(stage: Stage, key: str, statement: str) -> None:
    tenant = stage.tenants[key]
    login = stage.catalog.schemas.rw_login(tenant)
    with stage.connections.tenant(login.user, login.password).connect() as connection:
        connection.execute(statement.replace("MARTS", stage.catalog.schemas.get(tenant).marts).encode())


@pytest.fixture(scope="module", autouse=True)
def tables(stage: Stage) -> None:
    """Tables that differ: types, columns, and one that only one tenant has."""
    as_owner(
        stage, NORTH, "CREATE TABLE MARTS.visits AS SELECT 'v1' AS visit_id, 7 AS age, DATE '2026-01-02' AS seen_on"
    )
    as_owner(
        stage,
        SOUTH,
        "CREATE TABLE MARTS.visits AS SELECT 'v2' AS visit_id, 'old' AS age, 1 AS tenant, '{a}'::text[] AS x",
    )
    as_owner(stage, NORTH, "CREATE TABLE MARTS.wells AS SELECT 'w1' AS well_id, 3000000000 AS litres")
    as_owner(stage, COAST, "INSERT INTO MARTS.cases VALUES ('c9', 'mother', 'Coast', 'u1', NULL)")
    for key in KEYS:
        stage.recorded(key, "run-ws", {"cases": 3})


class Agent:
    """A principal of the test's own. `token`: with all toolsets."""

    def __init__(self, stage: Stage, *keys: str, scopes: set[Scope] | None = None) -> None:
        self.stage, self.name = stage, f"ws-{uuid4().hex[:8]}"
        self.token = stage.token(self.name, *keys, scopes=scopes)
        self.id = stage.catalog.principals.id_of(self.name)

    def made(self, name: str, *keys: str) -> None:
        """A workspace as the command line makes it."""
        stage = self.stage
        found = stage.catalog.workspaces.set(self.id, name, [stage.tenants[key] for key in keys])
        align(stage.catalog, stage.connections, [found])


@pytest.fixture
def agent(stage: Stage) -> Iterator[Agent]:
    made = Agent(stage, *KEYS)
    yield made
    stage.catalog.principals.revoke(made.name)


def test_it_is_made_queried_changed_and_dropped_by_tools(stage: Stage, bridge_url: str, agent: Agent) -> None:
    async def work(client: Client) -> None:
        assert (await ask(client, "list_workspaces"))["workspaces"] == []
        made = await ask(client, "set_workspace", workspace="both", tenants=[NORTH, SOUTH])
        assert made == {"workspace": "both", "tenants": [NORTH, SOUTH], "ready": True}
        assert [w["name"] for w in (await ask(client, "list_workspaces"))["workspaces"]] == ["both"]

        data = await ask(client, "query", workspace="both", sql=COUNTS)
        assert data["rows"] == [[NORTH, 3], [SOUTH, 3]]
        assert (data["workspace"], data["tenants"]) == ("both", [NORTH, SOUTH])
        assert [(s["tenant"], s["table"], s["run_id"]) for s in data["sources"]] == [
            (NORTH, "cases", "run-ws"),
            (SOUTH, "cases", "run-ws"),
        ]
        assert data["oldest"]["table"] == "cases"
        assert data["oldest"]["age_s"] >= 0

        await ask(client, "set_workspace", workspace="both", tenants=[SOUTH])
        assert (await ask(client, "query", workspace="both", sql=COUNTS))["rows"] == [[SOUTH, 3]]
        await ask(client, "set_workspace", workspace="both", tenants=[])
        assert (await refused(client, "query", workspace="both", sql=COUNTS))["code"] == "unknown_workspace"

    on_http(bridge_url, agent.token, work)
    assert stage.catalog.workspaces.all() == [w for w in stage.catalog.workspaces.all() if w.principal != agent.name]


def test_tables_that_differ_are_aligned_and_the_answer_says_how(bridge_url: str, agent: Agent) -> None:
    agent.made("both", NORTH, SOUTH, COAST)

    async def work(client: Client) -> None:
        data = await ask(client, "query", workspace="both", sql="SELECT * FROM visits ORDER BY tenant")
        assert [(c["name"], c["type"]) for c in data["columns"]] == [
            ("tenant", "text"), ("visit_id", "text"), ("age", "text"), ("seen_on", "date"), ("own_tenant", "integer"),
            ("x", "text[]"),
        ]  # fmt: skip
        assert data["rows"] == [
            [NORTH, "v1", "7", "2026-01-02", None, None],
            [SOUTH, "v2", "old", None, 1, ["a"]],
        ]
        assert data["tenants"] == [NORTH, SOUTH]
        assert data["aligned"]["as_text"] == {"visits.age": {NORTH: "integer", SOUTH: "text"}}
        assert data["aligned"]["null_for"] == {NORTH: ["visits.own_tenant", "visits.x"], SOUTH: ["visits.seen_on"]}
        assert data["aligned"]["renamed"] == {"visits.tenant": "own_tenant"}

        # A table that one tenant has, and one tenant's own table with its own types.
        data = await ask(client, "query", workspace="both", sql="SELECT tenant, litres FROM wells")
        assert data["rows"] == [[NORTH, 3000000000]]
        data = await ask(client, "query", workspace="both", sql="SELECT age + 1 AS n FROM ws_north__visits")
        assert (data["columns"][0]["type"], data["rows"]) == ("integer", [[8]])
        assert "aligned" not in data

        shown = await ask(client, "describe_workspace", workspace="both")
        named = {table["name"]: table for table in shown["tables"]}
        assert named["visits"]["not_in"] == [COAST]
        assert "ws_north" in shown["single"]
        columns = (await ask(client, "describe_workspace", workspace="both", table="visits"))["columns"]
        assert columns[2] == {"name": "age", "type": "text", "types": {NORTH: "integer", SOUTH: "text"}}
        assert columns[3] == {"name": "seen_on", "type": "date", "null_for": [SOUTH]}
        assert (await refused(client, "describe_workspace", workspace="both", table="visit"))["code"] == "unknown_table"

    on_http(bridge_url, agent.token, work)


def test_nothing_leads_out_of_a_workspace(stage: Stage, bridge_url: str, agent: Agent) -> None:
    agent.made("both", NORTH, SOUTH)
    marts = {key: stage.catalog.schemas.get(stage.tenants[key]).marts for key in KEYS}

    async def work(client: Client) -> None:
        for sql in (
            f"SELECT * FROM {marts[COAST]}.cases",
            f"SELECT * FROM {marts[NORTH]}.cases",
            f'SELECT * FROM "{marts[NORTH]}"."cases"',
            f"WITH {marts[NORTH]} AS (SELECT 1 AS cases) SELECT {marts[NORTH]}.cases FROM cases",
            "SELECT * FROM ws_coast__cases",
            "SELECT * FROM raw_cases",
            "SELECT * FROM pg_class",
            "SELECT 1) AS q, pg_class AS p --",
            "SELECT * FROM cases) AS q; SELECT 1 --",
        ):
            error = await refused(client, "query", workspace="both", sql=sql)
            assert error["code"] in ("unknown_relation", "syntax_error", "unknown_column"), (sql, error)
            assert COAST not in str(error)
        # An error says nothing of the tables behind the unions, and its place is in the caller's text.
        error = await refused(client, "query", workspace="both", sql="SELECT case_id +\n 1 FROM cases")
        assert error["details"]["line"] == 1
        assert "t_" not in error["message"]
        error = await refused(client, "query", workspace="both", sql="SELECT casename FROM cases")
        assert (error["code"], error["details"]["position"]) == ("unknown_column", 8)
        assert "case_name" in str(error["details"]["did_you_mean"])
        # Names are the caller's: a WITH query called as a table, quoted names, comments.
        rows = (
            await ask(client, "query", workspace="both", sql='WITH "cases" AS (SELECT 1 AS a) SELECT a FROM cases')
        )["rows"]
        assert rows == [[1]]
        rows = (
            await ask(client, "query", workspace="both", sql='SELECT "tenant" FROM "users" u /* x */ LIMIT 1 -- y')
        )["rows"]
        assert rows[0][0] in (NORTH, SOUTH)

        assert (await refused(client, "query", workspace="both", tenant=NORTH, sql=COUNTS))[
            "code"
        ] == "invalid_argument"
        assert (await refused(client, "query", workspace="other", sql=COUNTS))["code"] == "unknown_workspace"
        error = await refused(client, "set_workspace", workspace="far", tenants=[NORTH, "demo:one"])
        assert error["code"] == "unknown_tenant"

    on_http(bridge_url, agent.token, work)

    async def strangers(client: Client) -> None:
        assert (await refused(client, "query", workspace="both", sql=COUNTS))["code"] == "unknown_workspace"
        assert (await ask(client, "list_workspaces"))["workspaces"] == []

    on_http(bridge_url, stage.token(f"ws-{uuid4().hex[:8]}", *KEYS), strangers)


def test_a_member_without_the_right_is_left_out_by_the_bridge_alone(stage: Stage, bridge_url: str) -> None:
    """The catalog holds a member that its owner may not query, and the login has its rights all the same."""
    agent = Agent(stage, NORTH)
    agent.made("all", NORTH, SOUTH)
    found = stage.catalog.workspaces.get(agent.id, "all")
    readers = [stage.catalog.schemas.get(stage.tenants[key]).ro for key in (NORTH, SOUTH)]
    with stage.connections.admin.connect(autocommit=True) as admin:
        provision_workspace(admin, found.role, password=stage.catalog.workspaces.password(found), readers=readers)

    async def work(client: Client) -> None:
        content = envelope(await client.call_tool("query", {"workspace": "all", "sql": COUNTS}))
        assert content["data"]["rows"] == [[NORTH, 3]]
        assert any(SOUTH in warning and "Left out" in warning for warning in content["warnings"])

    on_http(bridge_url, agent.token, work)


def test_a_member_without_rights_in_the_database_is_left_out_there_alone(
    stage: Stage, bridge_url: str, agent: Agent
) -> None:
    agent.made("both", NORTH, SOUTH)
    found = stage.catalog.workspaces.get(agent.id, "both")
    reader = stage.catalog.schemas.get(stage.tenants[NORTH]).ro

    async def work(client: Client) -> None:
        assert len((await ask(client, "query", workspace="both", sql=COUNTS))["rows"]) == 2
        with stage.connections.admin.connect(autocommit=True) as admin:
            provision_workspace(admin, found.role, password=stage.catalog.workspaces.password(found), readers=[reader])
        content = envelope(await client.call_tool("query", {"workspace": "both", "sql": COUNTS}))
        assert content["data"]["rows"] == [[NORTH, 3]]
        assert any(SOUTH in warning for warning in content["warnings"])
        with stage.connections.admin.connect(autocommit=True) as admin:
            provision_workspace(admin, found.role, password=stage.catalog.workspaces.password(found), readers=[])
        assert (await refused(client, "query", workspace="both", sql=COUNTS))["code"] == "workspace_not_ready"

    on_http(bridge_url, agent.token, work)


def test_the_rows_of_a_torn_down_tenant_are_gone_in_the_next_call(stage: Stage, bridge_url: str, agent: Agent) -> None:
    agent.made("both", NORTH, COAST)
    coast = stage.tenants[COAST]

    async def work(client: Client) -> None:
        assert (await ask(client, "query", workspace="both", sql=COUNTS))["rows"] == [[COAST, 4], [NORTH, 3]]
        first = await ask(
            client, "query", workspace="both", sql="SELECT case_id FROM cases ORDER BY 1, tenant", limit=2
        )
        teardown_schema(stage.settings, stage.catalog, stage.connections, coast)
        assert (await ask(client, "query", workspace="both", sql=COUNTS))["rows"] == [[NORTH, 3]]
        # Pages of before do not go on with others' rows.
        error = await refused(
            client, "query", workspace="both", sql="SELECT case_id FROM cases ORDER BY 1, tenant", limit=2,
            cursor=first["next_cursor"],
        )  # fmt: skip
        assert error["code"] == "cursor_expired"
        provision_schema(stage.settings, stage.catalog, stage.connections, coast)
        login, schema = stage.catalog.schemas.rw_login(coast), stage.catalog.schemas.get(coast)
        with stage.connections.tenant(login.user, login.password).connect() as connection:
            connection.execute(TABLES.format(marts=schema.marts).encode())
        assert (await ask(client, "query", workspace="both", sql=COUNTS))["rows"] == [[COAST, 3], [NORTH, 3]]

    on_http(bridge_url, agent.token, work)


def test_the_strictest_policy_for_personal_data_holds_for_all(stage: Stage, bridge_url: str, agent: Agent) -> None:
    agent.made("both", NORTH, SOUTH)
    names = "SELECT tenant, case_name FROM cases ORDER BY tenant, case_id"

    async def work(client: Client) -> None:
        data = await ask(client, "query", workspace="both", sql=names)
        assert [column.get("pii") for column in data["columns"]] == [None, "cases.case_name"]
        for policy, code in (("refuse", "personal_data_refused"), ("mask", None)):
            set_policy(stage.settings, stage.catalog, stage.connections, stage.tenants[SOUTH], policy)  # type: ignore[arg-type]
            # What may be read is read still, though the column is withheld from the login.
            assert (await ask(client, "query", workspace="both", sql=COUNTS))["rows"] == [[NORTH, 3], [SOUTH, 3]]
            if code:
                assert (await refused(client, "query", workspace="both", sql=names))["code"] == code
                assert (await refused(client, "query", workspace="both", sql="SELECT * FROM cases"))["code"] == code
                continue
            data = await ask(client, "query", workspace="both", sql="SELECT * FROM cases")
            assert {row[3] for row in data["rows"]} == {"***"}
            assert (await refused(client, "query", workspace="both", sql=names + ", case_name"))["code"] == (
                "personal_data_masked"
            )

    try:
        on_http(bridge_url, agent.token, work)
        found = stage.catalog.workspaces.get(agent.id, "both")
        password = stage.catalog.workspaces.password(found)
        with stage.connections.tenant(found.role, password).connect(autocommit=True) as session:
            marts = stage.catalog.schemas.get(stage.tenants[SOUTH]).marts
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(f"SELECT case_name FROM {marts}.cases".encode())
    finally:
        set_policy(stage.settings, stage.catalog, stage.connections, stage.tenants[SOUTH], None)


def test_a_query_counts_for_each_tenant_and_is_in_each_audit(stage: Stage, bridge_url: str, agent: Agent) -> None:
    agent.made("both", NORTH, SOUTH)

    def calls(key: str) -> int:
        used = stage.catalog.usage.used(f"{agent.id}:{stage.tenants[key].id}", stage.settings.budget_window_s)
        return used.amounts.calls

    async def work(client: Client) -> None:
        await ask(client, "query", workspace="both", sql=COUNTS)
        assert (calls(NORTH), calls(SOUTH), calls(COAST)) == (1, 1, 0)
        stage.catalog.limits.set(stage.tenants[SOUTH], {"max_rows_per_query": 1})
        data = await ask(client, "query", workspace="both", sql="SELECT case_id FROM cases ORDER BY 1")
        assert (data["row_count"], data["truncated_by"]) == (1, "rows")
        stage.catalog.limits.set(stage.tenants[SOUTH], {"excluded_tables": ["cases"]})
        assert (await ask(client, "query", workspace="both", sql=COUNTS))["rows"] == [[NORTH, 3]]
        stage.catalog.limits.set(stage.tenants[SOUTH], {"calls": 3}, agent.name)
        error = await refused(client, "query", workspace="both", sql=COUNTS)
        assert (error["code"], error["details"]["exhausted"]) == ("budget_exhausted", "calls")

    try:
        on_http(bridge_url, agent.token, work)
    finally:
        stage.catalog.limits.clear(stage.tenants[SOUTH])
    for key in (NORTH, SOUTH):
        entries = [r.entry for r in stage.catalog.audit.read(actor=agent.name, tenant=key)]
        answered = [entry for entry in entries if entry.outcome == "ok"]
        assert len(answered) == 3
        assert {entry.detail["workspace"] for entry in answered} == {
            str(stage.catalog.workspaces.get(agent.id, "both").id)
        }


def test_a_token_without_the_toolset_queries_and_makes_none(stage: Stage, bridge_url: str) -> None:
    name = f"ws-{uuid4().hex[:8]}"
    token = stage.catalog.principals.create_token(name, [stage.tenants[NORTH]], {Scope.QUERY_RUN})
    found = stage.catalog.workspaces.set(stage.catalog.principals.id_of(name), "mine", [stage.tenants[NORTH]])
    align(stage.catalog, stage.connections, [found])

    async def work(client: Client) -> Any:
        assert (await ask(client, "query", workspace="mine", sql=COUNTS))["rows"] == [[NORTH, 3]]
        assert (await refused(client, "set_workspace", workspace="x", tenants=[NORTH]))["code"] == "toolset_off"

    on_http(bridge_url, token, work)
