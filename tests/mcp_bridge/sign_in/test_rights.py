"""What a program may do for a person: what the person may, and has allowed it, as it is now."""

from typing import Any

import httpx
import pytest
from mcp.client import Client

from explorer.catalog import Identity, Principal, Scope, SignedInPrincipal
from tests.mcp_bridge.sign_in.house import (
    READING,
    WORKING,
    House,
    Person,
    answer_in,
    exchange,
    headers_of,
    programs,
    token_request,
    tokens_for,
)
from tests.mcp_bridge.stage import ask, on_http, refused


def calls(token: str, house: House, tool: str, **arguments: Any) -> httpx.Response:
    params = {
        "name": tool,
        "arguments": arguments,
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        },
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    modern = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool}
    return programs.post(f"{house.url}/mcp", json=body, headers=headers_of(token, **modern))


def test_a_program_may_do_what_both_allow(house: House, person: Person) -> None:
    token = tokens_for(house, person, house.client(), scope="metadata:read query:run")["access_token"]

    async def work(client: Client) -> tuple[set[str], list[str]]:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        tenants = (await ask(client, "list_tenants"))["tenants"]
        return tools, sorted(tenant["key"] for tenant in tenants)

    tools, keys = on_http(house.url, token, work)
    assert keys == ["clinic:one", "clinic:two"]
    # Listed, since a call would make the host ask the person; what the role does not allow is not.
    assert "run_materialization" in tools
    assert "teardown_schema" not in tools
    audited = [record.entry for record in house.catalog.audit.read(actor="person:www:jane@example.org", limit=5)]
    (listing,) = [entry for entry in audited[:3] if entry.action == "list_tenants"]
    assert {"client_id", "grant"} <= listing.detail.keys()


def test_a_person_turns_toolsets_on_while_signing_in(house: House, person: Person) -> None:
    client_id = house.client()
    away = person.sends(person.asks(client_id), provider="www", toolset_operations="on", toolset_nonsense="on")
    back = person.goes(house.provider.comes_back(away.headers["location"]))
    code = answer_in(person.sends(person.goes(back.headers["location"]), decision="connect"))["code"]
    tokens = exchange(house, client_id, code).json()
    # Programs compare these scopes with those that they asked for.
    assert set(tokens["scope"].split()) == set(WORKING)
    again = token_request(
        house.url, grant_type="refresh_token", client_id=client_id, refresh_token=tokens["refresh_token"]
    ).json()

    async def work(client: Client) -> tuple[set[str], dict[str, Any]]:
        names = {tool.name for tool in (await client.list_tools()).tools}
        return names, await refused(client, "set_semantics", tenant="clinic:one")

    for each in (tokens, again):
        names, error = on_http(house.url, each["access_token"], work)
        assert "list_activity" in names
        assert "set_semantics" not in names
        assert (error["code"], "where you sign in" in error["next_step"]) == ("toolset_off", True)


def test_a_call_that_needs_more_sends_the_person_back(house: House, person: Person) -> None:
    client_id = house.client()
    token = tokens_for(house, person, client_id, scope="metadata:read query:run")["access_token"]
    answer = calls(token, house, "run_materialization", tenant="clinic:one", pipeline="commcare")
    assert answer.status_code == 403
    challenge = answer.headers["www-authenticate"]
    assert 'error="insufficient_scope"' in challenge
    assert 'scope="metadata:read query:run runs:launch"' in challenge
    assert f'resource_metadata="{house.url}/.well-known/oauth-protected-resource/mcp"' in challenge
    # What is granted is served, and so is what the person could not allow: the tool says so.
    assert calls(token, house, "list_tenants").status_code == 200
    for arguments in ({"tenant": "clinic:two"}, {"tenant": "no:such"}):
        assert calls(token, house, "run_materialization", **arguments).status_code == 200
    more = tokens_for(house, person, client_id, scope="metadata:read query:run runs:launch")["access_token"]
    assert calls(more, house, "run_materialization", tenant="clinic:one", pipeline="commcare").status_code == 200


def test_what_the_role_does_not_allow_is_refused_with_words(house: House, person: Person) -> None:
    token = tokens_for(house, person, house.client())["access_token"]

    async def work(client: Client) -> dict[str, Any]:
        return await refused(client, "run_materialization", tenant="clinic:two")

    error = on_http(house.url, token, work)
    assert error["code"] == "scope_missing"
    assert "role" in error["message"]


def test_somebody_elses_tenant_looks_like_none(house: House, person: Person) -> None:
    house.provider.person, house.provider.rights["mira"] = "mira", {"clinic:two": READING}
    token = tokens_for(house, person, house.client())["access_token"]

    async def work(client: Client) -> list[dict[str, Any]]:
        return [await refused(client, "list_tables", tenant=key) for key in ("clinic:one", "clinic:none")]

    one, none = on_http(house.url, token, work)
    assert one["code"] == none["code"] == "unknown_tenant"
    assert one["message"].replace("clinic:one", "clinic:none") == none["message"]


def test_rights_are_asked_for_again(house: House, person: Person) -> None:
    token = tokens_for(house, person, house.client())["access_token"]
    house.membership.asked.clear()
    assert calls(token, house, "list_tenants").status_code == 200
    (asked,) = {each.principal.name for each in house.membership.asked}
    assert asked == "person:www:jane@example.org"
    assert house.membership.asked[0].checked_age_s < 600
    house.membership.is_down = True
    down = calls(token, house, "list_tenants")
    assert down.status_code == 503
    assert int(down.headers["retry-after"]) > 0
    house.membership.is_down, house.membership.ended = False, True
    assert calls(token, house, "list_tenants").status_code == 401


def test_a_tenant_that_is_lost_is_gone_from_the_next_call(house: House, person: Person) -> None:
    house.provider.person, house.provider.rights["noor"] = "noor", {"clinic:one": WORKING, "clinic:two": READING}
    token = tokens_for(house, person, house.client())["access_token"]
    found = house.catalog.oauth_grants.verify(token)
    assert found is not None
    house.catalog.identities.save_check(found.principal.id, {"clinic:two": READING})
    answer = calls(token, house, "list_tenants").text
    assert "clinic:two" in answer
    assert "clinic:one" not in answer


@pytest.mark.parametrize("token", ["a.b.c", "a.b.d"])
def test_tokens_of_an_organisation_are_taken_by_who_knows_them(house: House, token: str) -> None:
    record = house.catalog.identities.sign_in(
        Identity("acme", "robot", "robot"), None, {"clinic:one": frozenset({Scope.METADATA_READ})}, source="claims"
    )
    principal = Principal(record.principal_id, record.name, record.rights)
    house.jwt.principal = SignedInPrincipal(principal, "acme", "robots", None, frozenset(Scope), 0.0)
    assert calls(token, house, "list_tenants").status_code == (200 if token == "a.b.c" else 401)


def test_tokens_of_the_command_line_stay(house: House) -> None:
    token = house.catalog.principals.create_token("a machine", [house.tenants["clinic:one"]])
    assert calls(token, house, "list_tenants").status_code == 200
    assert calls(token, house, "teardown_schema", tenant="clinic:one").status_code == 200
