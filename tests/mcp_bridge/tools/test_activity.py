"""A caller reads its own entries of the audit trail, and nobody else's."""

from mcp.client import Client

from explorer.catalog import AuditEntry
from tests.mcp_bridge.stage import Stage, ask, on_http, refused


def test_a_principal_reads_its_own_calls_page_by_page(stage: Stage, bridge_url: str) -> None:
    token = stage.token("active", "demo:one", "demo:second")
    stage.catalog.audit.append(AuditEntry("somebody-else", "query", "demo:one", "ok"))

    async def work(client: Client) -> None:
        await ask(client, "list_tables", tenant="demo:one")
        await ask(client, "query", tenant="demo:second", sql="select 1 as one")
        await refused(client, "list_tables", tenant="nobody")
        first = await ask(client, "list_activity", limit=2)
        assert [(call["action"], call["outcome"]) for call in first["calls"]] == [
            ("list_tables", "denied"),
            ("query", "ok"),
        ]
        assert first["calls"][0]["code"] == "unknown_tenant"
        assert first["calls"][1]["detail"]["rows"] == 1
        rest = await ask(client, "list_activity", limit=2, cursor=first["next_cursor"])
        assert [call["tenant"] for call in rest["calls"]] == ["demo:one"]
        assert rest["next_cursor"] is None
        only = await ask(client, "list_activity", tenant="demo:second")
        assert {call["tenant"] for call in only["calls"]} == {"demo:second"}
        assert (await refused(client, "list_activity", cursor="42"))["code"] == "invalid_cursor"

    on_http(bridge_url, token, work)
