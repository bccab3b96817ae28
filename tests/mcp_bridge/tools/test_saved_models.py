"""Models are saved through the bridge: checked as queries are, with versions, and refused with words."""

from typing import Any

import pytest
from mcp.client import Client

from explorer.catalog import Scope
from explorer.contract.bookkeeping import columns
from explorer.personal_data import realign, set_policy
from explorer.tenants import provision_saved_models
from tests.mcp_bridge.stage import Stage, ask, on_http, refused

KEY = "demo:models"
MODEL = {"tenant": KEY, "name": "children", "sql": "SELECT case_id, case_type FROM cases", "description": "One child."}


@pytest.fixture(scope="module")
def token(stage: Stage) -> str:
    """Of an agent of a tenant that has the login of saved models."""
    provision_saved_models(stage.settings, stage.catalog, stage.connections, stage.tenants[KEY])
    return stage.token("agent-models", KEY)


def test_a_model_is_tried_saved_shown_and_dropped(stage: Stage, bridge_url: str, token: str) -> None:
    sql = "SELECT case_type, count(*) AS n FROM cases GROUP BY 1 -- {{ 1 }};"
    tests = {"case_type": {"unique": True, "accepted_values": ["mother", "child"]}}

    async def work(client: Client) -> None:
        wish = {"tenant": KEY, "name": "per_type", "sql": sql, "description": "One type of case.", "tests": tests}
        tried = await ask(client, "save_model", **wish, dry_run=True)
        assert tried["saved"] is False
        assert sorted(tried["first_rows"]) == [["child", 2], ["mother", 1]]
        assert (await ask(client, "list_models", tenant=KEY))["models"] == []
        saved = await ask(client, "save_model", **wish)
        assert (saved["version"], saved["owner"], saved["reads"]) == (1, "agent-models", ["cases"])
        assert saved["columns"] == [{"name": "case_type", "type": "text"}, {"name": "n", "type": "bigint"}]
        assert (await ask(client, "save_model", **wish))["version"] == 1
        changed = await ask(client, "save_model", **wish | {"description": "One type."})
        assert changed["version"] == 2
        (listed,) = (await ask(client, "list_models", tenant=KEY))["models"]
        assert (listed["name"], listed["state"], listed["version"]) == ("per_type", "not built yet", 2)
        one = await ask(client, "list_models", tenant=KEY, name="per_type")
        assert one["sql"] == sql
        assert one["tests"] == {"case_type": {"unique": True, "accepted_values": ["mother", "child"]}}
        assert [each["version"] for each in one["versions"]] == [2, 1]
        error = await refused(client, "drop_model", tenant=KEY, name="per_type")
        assert error["code"] == "confirmation_required"
        await ask(client, "drop_model", tenant=KEY, name="per_type", confirm="per_type")
        assert (await ask(client, "list_models", tenant=KEY))["models"] == []
        assert (await refused(client, "drop_model", tenant=KEY, name="per_type"))["code"] == "unknown_model"
        assert (await ask(client, "list_models", tenant=KEY, name="per_type"))["state"] == "dropped"

    on_http(bridge_url, token, work)


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        ({"name": "cases"}, "model_invalid"),
        ({"name": "case_mine"}, "model_invalid"),
        ({"name": "pg_mine"}, "model_invalid"),
        ({"name": "select"}, "model_invalid"),
        ({"name": "Mine"}, "model_invalid"),
        ({"name": "../mine"}, "model_invalid"),
        ({"name": "mine', '') }} {{"}, "model_invalid"),
        ({"sql": "SELECT count(*), 1 FROM cases"}, "model_invalid"),
        ({"sql": "SELECT case_id, case_id FROM cases"}, "model_invalid"),
        ({"sql": "SELECT * FROM pg_class"}, "unknown_relation"),
        ({"sql": "DELETE FROM cases"}, "not_a_select"),
        ({"sql": "SELECT 1 AS a; SELECT 2 AS b"}, "multiple_statements"),
        ({"sql": "SELECT {{ env_var('PATH') }} AS a"}, "syntax_error"),
        ({"description": "{{ env_var('PATH') }}"}, "model_invalid"),
        ({"tests": {"case_type": {"accepted_values": ["{{ 1 }}"]}}}, "model_invalid"),
        ({"tests": {"nowhere": {"unique": True}}}, "model_invalid"),
        ({"sql": 'SELECT case_id AS "a b" FROM cases', "tests": {"a b": {"unique": True}}}, "model_invalid"),
        ({"tests": {"case_type": {"sql": "select 1"}}}, "invalid_argument"),
    ],
)
def test_what_cannot_be_a_model_is_refused(
    stage: Stage, bridge_url: str, token: str, wish: dict[str, Any], code: str
) -> None:
    async def work(client: Client) -> None:
        assert (await refused(client, "save_model", **MODEL | wish))["code"] == code
        assert (await ask(client, "list_models", tenant=KEY))["models"] == []

    on_http(bridge_url, token, work)


def test_who_may_not_save_models_cannot(stage: Stage, bridge_url: str, token: str) -> None:
    reader = stage.token("reads-models", KEY, scopes={Scope.METADATA_READ, Scope.QUERY_RUN})
    other = stage.token("other-models", "demo:one")

    async def work(client: Client) -> None:
        assert (await refused(client, "save_model", **MODEL))["code"] == "scope_missing"

    async def elsewhere(client: Client) -> None:
        assert (await refused(client, "save_model", **MODEL))["code"] == "unknown_tenant"

    on_http(bridge_url, reader, work)
    on_http(bridge_url, other, elsewhere)


def test_no_model_keeps_personal_data_that_may_not_be_read(stage: Stage, bridge_url: str, token: str) -> None:
    named = MODEL | {"sql": "SELECT upper(case_name) AS loud FROM cases"}

    async def marked(client: Client) -> None:
        tried = await ask(client, "save_model", **named, dry_run=True)
        assert tried["columns"] == [{"name": "loud", "type": "text", "pii": "cases.case_name"}]

    async def held(client: Client) -> None:
        assert (await refused(client, "save_model", **named))["code"] == "personal_data_refused"

    on_http(bridge_url, token, marked)
    set_policy(stage.settings, stage.catalog, stage.connections, stage.tenants[KEY], "refuse")
    try:
        on_http(bridge_url, token, held)
        set_policy(stage.settings, stage.catalog, stage.connections, stage.tenants[KEY], "mask")

        async def masked(client: Client) -> None:
            plain = MODEL | {"sql": "SELECT case_name FROM cases"}
            assert (await refused(client, "save_model", **plain))["code"] == "model_invalid"

        on_http(bridge_url, token, masked)
    finally:
        set_policy(stage.settings, stage.catalog, stage.connections, stage.tenants[KEY], None)


def test_a_column_that_tells_personal_data_is_personal_data(stage: Stage, bridge_url: str, token: str) -> None:
    tenant = stage.tenants[KEY]
    schema, own = stage.catalog.schemas.get(tenant), stage.catalog.schemas.saved_login(tenant)
    rw = stage.catalog.schemas.rw_login(tenant)
    assert own is not None
    with stage.connections.tenant(own.user, own.password).connect() as connection:
        connection.execute(f"CREATE TABLE {schema.saved}.shouted AS SELECT 'ASHA' AS loud, 1 AS n".encode())
    with stage.connections.tenant(rw.user, rw.password).connect(autocommit=True) as connection:
        columns.write(connection, schema, {"shouted": {"loud": {"tells": ["cases.case_name"]}}})

    async def marked(client: Client) -> None:
        answer = await ask(client, "query", tenant=KEY, sql="SELECT * FROM shouted")
        assert [column.get("pii") for column in answer["columns"]] == ["shouted.loud", None]
        assert "ASHA" not in str(await ask(client, "describe_table", tenant=KEY, table="shouted"))

    async def held(client: Client) -> None:
        assert (await refused(client, "query", tenant=KEY, sql="SELECT * FROM shouted"))[
            "code"
        ] == "personal_data_refused"
        assert (await ask(client, "query", tenant=KEY, sql="SELECT n FROM shouted"))["rows"] == [[1]]
        assert (await ask(client, "get_metadata", tenant=KEY))["personal_data"] == "refuse"

    try:
        realign(stage.settings, stage.catalog, stage.connections, tenant)
        stage.written(KEY, "run-shouted")
        on_http(bridge_url, token, marked)
        set_policy(stage.settings, stage.catalog, stage.connections, tenant, "refuse")
        on_http(bridge_url, token, held)
    finally:
        set_policy(stage.settings, stage.catalog, stage.connections, tenant, None)
        with stage.connections.tenant(own.user, own.password).connect() as connection:
            connection.execute(f"DROP TABLE {schema.saved}.shouted".encode())
        stage.written(KEY, "run-shouted-gone")


def test_a_tenant_has_so_many_models_and_no_more(stage: Stage, bridge_url: str, token: str) -> None:
    most = stage.settings.saved_models_max
    store, tenant = stage.catalog.saved_models, stage.tenants[KEY]

    async def one(client: Client) -> None:
        await ask(client, "save_model", **MODEL)

    async def work(client: Client) -> None:
        error = await refused(client, "save_model", **MODEL | {"name": "one_more"})
        assert (error["code"], error["details"]) == ("model_limit_reached", {"models": most, "max": most})
        await ask(client, "save_model", **MODEL | {"description": "A new version is none more."})

    on_http(bridge_url, token, one)
    text = store.current(tenant)["children"][1]
    for number in range(most - 1):
        store.save(tenant, f"filler{number}", text, "a test", most=most)
    try:
        on_http(bridge_url, token, work)
    finally:
        for name in store.current(tenant):
            store.drop(tenant, name, "a test")


def test_a_model_does_not_read_itself_through_others(stage: Stage, bridge_url: str, token: str) -> None:
    tenant, store = stage.tenants[KEY], stage.catalog.saved_models
    schema, own = stage.catalog.schemas.get(tenant), stage.catalog.schemas.saved_login(tenant)
    assert own is not None

    async def work(client: Client) -> None:
        await ask(client, "save_model", **MODEL | {"name": "first_one"})
        with stage.connections.tenant(own.user, own.password).connect() as connection:
            connection.execute(f"CREATE TABLE {schema.saved}.first_one (case_id text, case_type text)".encode())
            connection.execute(f"CREATE TABLE {schema.saved}.second_one (case_id text)".encode())
            connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema.saved} TO {schema.ro}".encode())
        stage.written(KEY, "run-models")
        await ask(client, "save_model", **MODEL | {"name": "second_one", "sql": "SELECT case_id FROM first_one"})
        for sql in ("SELECT case_id FROM second_one", "SELECT case_id FROM first_one"):
            error = await refused(client, "save_model", **MODEL | {"name": "first_one", "sql": sql})
            assert error["code"] == "model_invalid"
            assert "read itself" in error["message"]
        error = await refused(client, "drop_model", tenant=KEY, name="first_one", confirm="first_one")
        assert "second_one" in error["message"]

    try:
        on_http(bridge_url, token, work)
    finally:
        for name in store.current(tenant):
            store.drop(tenant, name, "a test")
        with stage.connections.tenant(own.user, own.password).connect() as connection:
            connection.execute(f"DROP TABLE IF EXISTS {schema.saved}.first_one, {schema.saved}.second_one".encode())
