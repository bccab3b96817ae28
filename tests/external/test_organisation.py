"""An organisation's identity provider from elsewhere (`oidc-provider`): its people sign in there, its machines' tokens are taken,
and nothing that it did not sign for the bridge is."""

import base64
import json
import time
from typing import Any

import httpx

from explorer.catalog.access.oauth_grants import s256
from tests.e2e.stack import CHILDREN, MOTHERS
from tests.external import programs
from tests.external.conftest import Organisation, Platform
from tests.external.programs import BIN, started
from tests.mcp_bridge.sign_in.house import CALLBACK, VERIFIER, headers_of

HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "robot", "version": "1"}},
}


def machine_token(organisation: Organisation, audience: str, client: str = "robot") -> str:
    """An access token of a machine (client credentials, RFC 8707), as the provider gives it."""
    answer = httpx.post(
        f"{organisation.issuer}/token",
        data={"grant_type": "client_credentials", "resource": audience},
        auth=(client, organisation.secret),
        trust_env=False,
        verify=False,
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def part_of(token: str, number: int) -> dict[str, Any]:
    """Header (0) or claims (1) of a token."""
    text = token.split(".")[number]
    return dict(json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))))


def answer_to(platform: Platform, token: str) -> httpx.Response:
    """The bridge's answer to the first request of a session, with this token."""
    return httpx.post(platform.url, headers=headers_of(token), json=HELLO, trust_env=False, verify=False, timeout=30)


def tenants(platform: Platform, token: str) -> dict[str, list[str]]:
    """What the token is good for."""
    listed = platform.stack.call("list_tenants", token)["data"]
    # What all have stands once.
    of_all = listed.get("of_all", {})
    return {tenant["key"]: sorted((of_all | tenant)["scopes"]) for tenant in listed["tenants"]}


def test_a_machine_brings_the_token_of_its_organisation(platform: Platform) -> None:
    token = machine_token(platform.organisation, platform.url)
    assert (part_of(token, 0)["alg"], part_of(token, 0)["typ"]) == ("RS256", "at+jwt")
    assert tenants(platform, token) == {MOTHERS: ["metadata:read", "query:run"]}
    assert platform.stack.rows(MOTHERS, "select count(*) from cases", token)[0][0] > 0
    refused = platform.stack.call("query", token, tenant=CHILDREN, sql="select 1")
    assert (
        refused["error"]["code"]
        == platform.stack.call("query", token, tenant="no:such", sql="select 1")["error"]["code"]
    )
    listed = platform.stack.cli("people", "list").stdout
    assert "person:acme:tokens:robot" in listed


def test_a_token_for_another_use_is_refused(platform: Platform) -> None:
    for audience in (f"{platform.bridge}/", platform.bridge, "https://elsewhere.example/mcp"):
        token = machine_token(platform.organisation, audience)
        assert part_of(token, 1)["aud"] == audience
        refusal = answer_to(platform, token)
        assert refusal.status_code == 401, audience
        assert 'error="invalid_token"' in refusal.headers["www-authenticate"]


def test_a_token_of_another_provider_is_refused(platform: Platform) -> None:
    secret = platform.organisation.secret
    node = [str(BIN / "node"), "organisation.mjs", platform.bridge, secret]
    with started(*node, env=programs.environment()) as process:
        other = Organisation(process.event()["issuer"], secret, process)
        token = machine_token(other, platform.url)
    assert part_of(token, 1)["aud"] == platform.url
    assert answer_to(platform, token).status_code == 401


def test_a_token_ends(platform: Platform) -> None:
    token = machine_token(platform.organisation, platform.url, "hasty-robot")
    while time.time() < part_of(token, 1)["exp"] + 0.1:
        time.sleep(0.1)
    assert answer_to(platform, token).status_code == 401


def asked_by(platform: Platform) -> tuple[str, str]:
    """A program that registered itself, and the address that it opens in the browser."""
    metadata = {"redirect_uris": [CALLBACK]}
    registered = httpx.post(f"{platform.bridge}/oauth/register", json=metadata, trust_env=False, verify=False)
    client_id = registered.json()["client_id"]
    asked = {
        "response_type": "code", "client_id": client_id, "redirect_uri": CALLBACK, "state": "s",
        "code_challenge": s256(VERIFIER), "code_challenge_method": "S256", "resource": platform.url,
    }  # fmt: skip
    return client_id, str(httpx.URL(f"{platform.bridge}/oauth/authorize", params=asked))


def test_people_sign_in_there_and_their_groups_decide(platform: Platform) -> None:
    client_id, address = asked_by(platform)
    person = platform.employee("amina")
    arrived = httpx.URL(person.comes_to(address))
    assert "amina@acme.example" in person.pages[1]
    form = {
        "grant_type": "authorization_code", "client_id": client_id, "code": arrived.params["code"],
        "redirect_uri": CALLBACK, "code_verifier": VERIFIER, "resource": platform.url,
    }  # fmt: skip
    answer = httpx.post(f"{platform.bridge}/oauth/token", data=form, trust_env=False, verify=False)
    assert tenants(platform, answer.json()["access_token"]) == {MOTHERS: ["metadata:read", "query:run"]}


def test_who_is_in_no_such_group_gets_nothing_and_reads_why(platform: Platform) -> None:
    person = platform.employee("visitor")
    page = person.signs_in(asked_by(platform)[1])
    assert "Nothing is open to your groups or roles there." in page.text
    assert 'value="connect"' not in page.text


def test_a_new_key_of_the_provider_is_taken_and_the_old_one_still_is(platform: Platform) -> None:
    """The bridge knows the old key alone, and asks again for one that it does not know."""
    provider = platform.organisation.process
    before = machine_token(platform.organisation, platform.url)
    assert answer_to(platform, before).status_code == 200
    provider.tell("rotate")
    kid = provider.event()["kid"]
    after = machine_token(platform.organisation, platform.url)
    assert kid == part_of(after, 0)["kid"] != part_of(before, 0)["kid"]
    # Strangers' keys must not make it ask all the time, so it may take a while.
    deadline = time.monotonic() + 90
    while answer_to(platform, after).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert answer_to(platform, before).status_code == 200
    _, address = asked_by(platform)
    assert "code=" in platform.employee("amina").comes_to(address)
