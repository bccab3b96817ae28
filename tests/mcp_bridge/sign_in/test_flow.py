"""From a client's link to tokens: what works, in any bridge, and what anybody else gets."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from mcp.shared.auth import OAuthMetadata, ProtectedResourceMetadata

from explorer.catalog import Scope
from explorer.core.errors import SettingsInvalid
from mcp_bridge.sign_in.addresses import Addresses
from mcp_bridge.sign_in.identity import Unavailable
from tests.mcp_bridge.gate.test_access import INITIALIZE
from tests.mcp_bridge.sign_in.house import (
    CALLBACK,
    DOCUMENT_URL,
    READING,
    WORKING,
    House,
    Person,
    answer_in,
    at,
    exchange,
    headers_of,
    hidden,
    programs,
    token_request,
    tokens_for,
)


def get(url: str, **headers: str) -> httpx.Response:
    return programs.get(url, headers=headers)


def mcp(url: str, token: str, **headers: str) -> httpx.Response:
    return programs.post(f"{url}/mcp", json=INITIALIZE, headers=headers_of(token, **headers))


def test_hosts_find_the_way_in(house: House) -> None:
    unknown = programs.post(f"{house.url}/mcp", json=INITIALIZE)
    assert unknown.status_code == 401
    challenge = unknown.headers["www-authenticate"]
    assert f'resource_metadata="{house.url}/.well-known/oauth-protected-resource/mcp"' in challenge
    assert 'scope="metadata:read query:run runs:launch runs:cancel"' in challenge
    assert "error=" not in challenge
    assert 'error="invalid_token"' in mcp(house.url, "dxa_nonsense").headers["www-authenticate"]
    for path in ("", "/mcp"):
        answer = get(f"{house.url}/.well-known/oauth-protected-resource{path}")
        ProtectedResourceMetadata.model_validate(answer.json())
        assert answer.json()["resource"] == f"{house.url}/mcp"
        # The same string letter by letter: clients compare it.
        assert answer.json()["authorization_servers"] == [house.url]
        assert answer.json()["scopes_supported"] == ["metadata:read", "query:run", "runs:launch", "runs:cancel"]
    about = get(f"{house.url}/.well-known/oauth-authorization-server")
    OAuthMetadata.model_validate(about.json())
    assert about.json()["issuer"] == house.url
    assert about.json()["token_endpoint_auth_methods_supported"] == ["none"]
    assert about.json()["code_challenge_methods_supported"] == ["S256"]
    assert about.json()["client_id_metadata_document_supported"] is True
    assert about.json()["authorization_response_iss_parameter_supported"] is True
    assert get(f"{house.url}/.well-known/openid-configuration").status_code == 404


def test_programs_in_browsers_may_ask_from_anywhere_and_pages_are_not_theirs(house: House) -> None:
    origin = {"Origin": "http://localhost:6274"}
    for path in ("/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server"):
        assert get(f"{house.url}{path}", **origin).headers["access-control-allow-origin"] == "*"
    for path in ("token", "register", "revoke"):
        preflight = programs.options(
            f"{house.url}/oauth/{path}",
            headers={
                **origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization",
            },
        )
        assert preflight.is_success
        assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-origin" not in get(f"{house.url}/oauth/authorize", **origin).headers


@pytest.mark.parametrize(
    "path", ["/oauth/authorize", "/oauth/token", "/.well-known/oauth-authorization-server", "/oauth/callback/www"]
)
def test_a_foreign_host_gets_nothing(house: House, path: str) -> None:
    assert get(f"{house.url}{path}", Host="evil.example").status_code == 421


@pytest.mark.parametrize("base", ["http://data.example.org", "https://data.example.org/explorer", "http://10.0.0.1:80"])
def test_nobody_signs_in_in_the_clear_or_under_a_path(base: str) -> None:
    with pytest.raises(SettingsInvalid):
        Addresses.of(base, "/mcp")
    assert Addresses.of("https://Data.example.org:443/", "/mcp").issuer == "https://data.example.org"
    assert Addresses.of("http://[::1]:80", "/mcp").resource == "http://[::1]/mcp"


def test_a_person_connects_a_client(house: House, person: Person) -> None:
    client_id = house.client()
    first = person.asks(client_id)
    assert "A host" in first.text
    assert "Health server" in first.text
    second = person.signs_in(first)
    assert "jane@example.org" in second.text
    assert "Project clinic:one" in second.text
    answer = answer_in(person.sends(second, decision="connect"))
    assert answer.keys() == {"code", "state", "iss"}
    assert (answer["state"], answer["iss"]) == ("of the client", house.url)
    given = exchange(house, client_id, answer["code"])
    assert given.headers["cache-control"] == "no-store"
    content = given.json()
    assert (content["token_type"], content["expires_in"]) == ("Bearer", 3600)
    assert set(content["scope"].split()) == WORKING
    assert mcp(house.url, content["access_token"]).status_code == 200
    assert mcp(house.url, content["refresh_token"]).status_code == 401
    assert house.actions(client_id) == ["sign_in"]
    # The cookie of the sign-in is gone, and so is the sign-in.
    assert person.sends(second, decision="connect").status_code == 400
    assert not [name for name in person.http.cookies if "sign-in" in name]


def test_any_bridge_serves_any_step(house: House, person: Person) -> None:
    client_id = house.client()
    away = person.http.post(
        f"{house.other_url}/oauth/consent",
        data={**hidden(person.asks(client_id)), "provider": "www"},
        headers={"Origin": house.url},
    )
    back = person.goes(house.provider.comes_back(away.headers["location"]), house.url)
    second = person.goes(back.headers["location"], house.other_url)
    code = answer_in(person.sends(second, house.url, decision="connect"))["code"]
    tokens = exchange(house, client_id, code, house.other_url).json()
    for url in (house.url, house.other_url):
        assert mcp(url, tokens["access_token"]).status_code == 200
    with ThreadPoolExecutor(4) as pool:
        renewed = list(
            pool.map(
                lambda number: token_request(
                    (house.url, house.other_url)[number % 2],
                    grant_type="refresh_token", client_id=client_id, refresh_token=tokens["refresh_token"],
                ),
                range(4),
            )
        )  # fmt: skip
    assert [answer.status_code for answer in renewed] == [200] * 4
    assert all(mcp(house.url, answer.json()["access_token"]).status_code == 200 for answer in renewed)


def test_tabs_and_reloads_do_not_disturb_each_other(house: House, person: Person) -> None:
    client_id = house.client()
    one, two = person.asks(client_id, state="one"), person.asks(client_id, state="two")
    person.asks(client_id, state="one")
    second = person.signs_in(two)
    reloaded = person.goes(str(second.url))
    assert hidden(reloaded) == hidden(second)
    assert answer_in(person.sends(second, decision="connect"))["state"] == "two"
    # Back to page 1, and away again: the first state is no longer good.
    first = person.sends(one, provider="www").headers["location"]
    again = person.sends(one, provider="www").headers["location"]
    assert person.goes(house.provider.comes_back(first)).status_code == 400
    back = person.goes(house.provider.comes_back(again))
    connected = person.sends(person.goes(back.headers["location"]), decision="connect")
    assert answer_in(connected)["state"] == "one"


def test_whoever_declines_sends_the_client_away(house: House, person: Person) -> None:
    client_id = house.client()
    first = person.sends(person.asks(client_id), decision="deny")
    second = person.sends(person.signs_in(person.asks(client_id)), decision="deny")
    for answer in (first, second):
        told = answer_in(answer)
        assert (told["error"], told["state"], told["iss"]) == ("access_denied", "of the client", house.url)
    away = person.sends(person.asks(client_id), provider="www").headers["location"]
    state = httpx.URL(away).params["state"]
    declined = person.goes(f"{house.url}/oauth/callback/www?error=access_denied&state={state}")
    assert answer_in(declined)["error"] == "access_denied"


def test_another_account_begins_at_the_first_page(house: House, person: Person) -> None:
    second = person.signs_in(person.asks(house.client()))
    other = person.sends(second, decision="other")
    assert other.status_code == 303
    house.provider.person = "mira"
    house.provider.rights["mira"] = {"clinic:two": READING}
    assert "mira@example.org" in person.signs_in(person.goes(other.headers["location"])).text


def test_page_two_tells_what_is_not_there_and_why(house: House, person: Person) -> None:
    house.provider.person = "nobody"
    house.provider.unavailable = (Unavailable("the-north", "You see only a part of it."),)
    second = person.signs_in(person.asks(house.client()))
    assert "the-north" in second.text
    assert "You see only a part of it." in second.text
    assert 'value="connect"' not in second.text
    assert "/oauth/space" not in second.text, "nothing would come of it"
    refused = person.sends(second, decision="connect")
    assert refused.status_code == 400
    assert "location" not in refused.headers


def test_who_is_not_let_in_reads_why(house: House, person: Person) -> None:
    client_id = house.client()
    house.provider.refuses = True
    away = person.sends(person.asks(client_id), provider="www")
    page = person.goes(house.provider.comes_back(away.headers["location"]))
    assert page.status_code == 400
    assert "Your account is not active." in page.text
    assert house.actions(client_id) == ["sign_in_refused"]


def test_a_person_whom_the_operator_blocked_stays_out(house: House, person: Person) -> None:
    client_id = house.client()
    house.provider.person, house.provider.rights["eve"] = "eve", {"clinic:one": READING}
    tokens = tokens_for(house, person, client_id)
    house.catalog.identities.revoke("person:www:eve@example.org", block=True)
    assert mcp(house.url, tokens["access_token"]).status_code == 401
    away = person.sends(person.asks(client_id), provider="www")
    page = person.goes(house.provider.comes_back(away.headers["location"]))
    assert page.status_code == 400
    assert "does not let this account in" in page.text


# Never sent anywhere: a redirect to an address that is not the client's is what attackers are after.
REFUSED_IN_PAGES: list[dict[str, str | None]] = [
    {"client_id": None},
    {"client_id": "dxc_unknown"},
    {"client_id": "https://127.0.0.1/client.json"},
    {"redirect_uri": None},
    {"redirect_uri": "http://evil.example/callback"},
    {"redirect_uri": "https://localhost:4711/callback"},
    {"redirect_uri": "http://localhost:4711/callback/../x"},
    {"redirect_uri": "http://localhost:4711/callback?x=1"},
    {"redirect_uri": "http://localhost:4711/callback#x"},
    {"redirect_uri": "http://localhost.evil.example:4711/callback"},
    {"redirect_uri": "http://localhost:4711@evil.example/callback"},
    {"redirect_uri": "http://127.0.0.1:4711/callback"},
    {"redirect_uri": "javascript:alert(1)"},
]


@pytest.mark.parametrize("changes", REFUSED_IN_PAGES, ids=str)
def test_what_may_not_be_sent_back_is_a_page(house: House, person: Person, changes: dict[str, str | None]) -> None:
    client_id = house.client(CALLBACK, "http://localhost/callback")
    answer = person.asks(**{"client_id": client_id, **changes})  # type: ignore[arg-type]
    assert answer.status_code == 400
    assert "location" not in answer.headers
    assert answer.headers["content-type"].startswith("text/html")


def test_a_repeated_parameter_is_a_page(house: House, person: Person) -> None:
    url = str(person.asks(house.client()).url)
    assert person.goes(f"{url}&redirect_uri=http://evil.example/").status_code == 400


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "unsupported_response_type"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"resource": "https://other.example.org/mcp"}, "invalid_target"),
        ({"request": "e30."}, "request_not_supported"),
    ],
)
def test_the_client_learns_what_it_asked_wrongly(
    house: House, person: Person, changes: dict[str, str | None], error: str
) -> None:
    told = answer_in(person.asks(house.client(), **changes))
    assert (told["error"], told["state"], told["iss"]) == (error, "of the client", house.url)


@pytest.mark.parametrize(
    ("asked", "granted"),
    [(None, WORKING), ("", WORKING), ("openid email", WORKING), ("query:run openid offline_access", {Scope.QUERY_RUN})],
)
def test_unknown_scopes_are_dropped(house: House, person: Person, asked: str | None, granted: set[Scope]) -> None:
    assert set(tokens_for(house, person, house.client(), scope=asked)["scope"].split()) == granted


def test_a_loopback_client_comes_with_any_port(house: House, person: Person) -> None:
    client_id = house.client("http://localhost/callback")
    uri = "http://localhost:53219/callback"
    code = person.connects(client_id, redirect_uri=uri)["code"]
    assert exchange(house, client_id, code, redirect_uri=uri).status_code == 200


@pytest.mark.parametrize("fields", [{"origin": "https://evil.example"}, {"origin": "null"}, {"form": "0" * 64}])
def test_a_form_of_another_site_does_nothing(house: House, person: Person, fields: dict[str, str]) -> None:
    client_id = house.client()
    first = person.asks(client_id)
    assert person.sends(first, provider="www", **fields).status_code == 403
    second = person.signs_in(first)
    assert person.sends(second, decision="connect", **fields).status_code == 403
    assert answer_in(person.sends(second, decision="connect"))["code"]


def test_the_consent_of_one_browser_is_none_of_another(house: House, person: Person) -> None:
    """An attacker begins, agrees, and hands the rest to a victim; or takes what a victim began."""
    other = Person(house)
    first = person.asks(house.client())
    assert other.sends(first, provider="www").status_code == 400
    away = person.sends(first, provider="www")
    back = house.provider.comes_back(away.headers["location"])
    lost = other.goes(back)
    assert lost.status_code == 400
    assert "Start again in this browser" in lost.text
    # It was not used up by that.
    second = person.goes(person.goes(back).headers["location"])
    assert other.sends(second, decision="connect").status_code == 400
    assert person.goes(back).status_code == 400, "an answer of the provider is taken once"
    assert answer_in(person.sends(second, decision="connect"))["code"]


@pytest.mark.parametrize("path", ["www?state=nonsense&code=x", "www?code=x", "other?state=x&code=x", "www"])
def test_an_answer_that_nobody_waits_for_is_a_page(house: House, person: Person, path: str) -> None:
    answer = person.goes(f"{house.url}/oauth/callback/{path}")
    assert answer.status_code in (400, 404)
    assert answer.headers["content-type"].startswith("text/html")
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"code_verifier": "w" * 43}, 400, "invalid_grant"),
        ({"code_verifier": None}, 400, "invalid_grant"),
        ({"redirect_uri": "http://localhost:4712/callback"}, 400, "invalid_grant"),
        ({"client_id": "another"}, 401, "invalid_client"),
        ({"client_id": None}, 401, "invalid_client"),
        ({"resource": "https://other.example.org/mcp"}, 400, "invalid_target"),
        ({"code": "nonsense"}, 400, "invalid_grant"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
    ],
)
def test_a_code_is_for_whom_it_was_made(
    house: House, person: Person, changes: dict[str, str | None], status: int, error: str
) -> None:
    client_id = house.client()
    code = person.connects(client_id)["code"]
    answer = exchange(house, **{"client_id": client_id, "code": code, **changes})  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.json()["error_description"]


def test_a_wrong_verifier_uses_the_code_up(house: House, person: Person) -> None:
    client_id = house.client()
    code = person.connects(client_id)["code"]
    assert exchange(house, client_id, code, code_verifier="w" * 43).status_code == 400
    assert exchange(house, client_id, code).json()["error"] == "invalid_grant"


def test_another_clients_code_is_no_use(house: House, person: Person) -> None:
    code = person.connects(house.client())["code"]
    assert exchange(house, house.client(), code).json()["error"] == "invalid_grant"


def test_a_replayed_code_ends_what_it_gave(house: House, person: Person) -> None:
    client_id = house.client()
    code = person.connects(client_id)["code"]
    tokens = exchange(house, client_id, code).json()
    assert mcp(house.url, tokens["access_token"]).status_code == 200
    assert exchange(house, client_id, code).json()["error"] == "invalid_grant"
    assert mcp(house.url, tokens["access_token"]).status_code == 401
    assert house.actions(client_id) == ["sign_in", "code_reuse"]


def renewed(house: House, client_id: str, token: str, **form: str) -> Any:
    return token_request(house.url, grant_type="refresh_token", client_id=client_id, refresh_token=token, **form)


def test_a_refresh_keeps_the_session(house: House, person: Person) -> None:
    client_id = house.client()
    tokens = tokens_for(house, person, client_id)
    session = mcp(house.url, tokens["access_token"]).headers["mcp-session-id"]
    fresh = renewed(house, client_id, tokens["refresh_token"], scope="query:run").json()
    assert fresh["scope"] == "query:run"
    in_session = {"Mcp-Session-Id": session, "MCP-Protocol-Version": "2025-11-25"}
    ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
    for token, status in (
        (fresh["access_token"], 200),
        (tokens_for(house, person, house.client())["access_token"], 404),
    ):
        answer = programs.post(f"{house.url}/mcp", json=ping, headers=headers_of(token, **in_session))
        assert answer.status_code == status
    assert renewed(house, client_id, fresh["refresh_token"], scope="schema:manage").json()["error"] == "invalid_scope"
    assert renewed(house, house.client(), fresh["refresh_token"]).json()["error"] == "invalid_grant"


def test_what_is_revoked_ends_at_once(house: House, person: Person) -> None:
    client_id = house.client()
    tokens = tokens_for(house, person, client_id)
    form = {"client_id": client_id, "token": tokens["refresh_token"]}
    for _ in range(2):
        answer = programs.post(f"{house.url}/oauth/revoke", data=form)
        assert (answer.status_code, answer.content) == (200, b"")
    assert mcp(house.url, tokens["access_token"]).status_code == 401
    assert renewed(house, client_id, tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert house.actions(client_id) == ["sign_in", "grant_revoked"]


def test_a_blocked_client_is_out_everywhere(house: House, person: Person) -> None:
    client_id = house.client()
    tokens, code = tokens_for(house, person, client_id), person.connects(client_id)["code"]
    page = person.asks(client_id)
    house.catalog.oauth_clients.block(client_id)
    assert mcp(house.url, tokens["access_token"]).status_code == 401
    assert exchange(house, client_id, code).json()["error"] == "invalid_client"
    assert renewed(house, client_id, tokens["refresh_token"]).status_code == 401
    for answer in (person.sends(page, provider="www"), person.asks(client_id)):
        assert answer.status_code == 400
        assert "blocked" in answer.text


def test_a_client_may_name_itself_in_the_basic_header(house: House, person: Person) -> None:
    client_id = house.client()
    form = {"grant_type": "refresh_token", "refresh_token": tokens_for(house, person, client_id)["refresh_token"]}
    answer = programs.post(f"{house.url}/oauth/token", data=form, auth=(client_id, ""))
    assert answer.status_code == 200


def test_what_is_no_form_is_refused(house: House) -> None:
    for sent in ({"json": {"a": 1}}, {"content": b"a=1&a=2", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
                 {"data": {"a": "x" * 70_000}}):  # fmt: skip
        answer = programs.post(f"{house.url}/oauth/token", **sent)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_a_document_makes_a_client(house: House, person: Person) -> None:
    content = {"client_id": DOCUMENT_URL, "client_name": "Helpful <b>host</b>", "redirect_uris": [CALLBACK]}
    house.documents[DOCUMENT_URL] = httpx.Response(200, json=content)
    first = person.asks(DOCUMENT_URL)
    assert "Published by" in first.text
    assert "host.example.org" in first.text
    assert "<b>host" not in first.text
    house.documents.clear()
    code = answer_in(person.sends(person.signs_in(first), decision="connect"))["code"]
    assert exchange(house, DOCUMENT_URL, code).status_code == 200


def test_who_uses_a_known_name_is_shown_as_somebody_else(house: House, person: Person) -> None:
    page = person.asks(house.client(name="Ｃlaude  Desktop"))
    assert "Careful" in page.text
    assert "Careful" not in person.asks(house.client(name="Some host")).text


def test_only_so_many_sign_ins_begin_in_a_minute(house: House, person: Person) -> None:
    client_id = house.client()
    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda _: person.asks(client_id).status_code, range(63)))
    assert sorted(set(statuses)) == [200, 429]
    assert statuses.count(429) == 3
    assert Person(house).asks(client_id).status_code == 200


def test_nothing_of_a_sign_in_leaves_with_the_browser(house: House, person: Person) -> None:
    """No referrer to the client, nothing kept, and the pages cannot be framed."""
    first = person.asks(house.client())
    second = person.signs_in(first)
    gone = person.sends(second, decision="connect")
    for page in (first, second):
        assert page.headers["x-frame-options"] == "DENY"
        assert "form-action" not in page.headers["content-security-policy"]
    for answer in (first, second, gone):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] in ("same-origin", "no-referrer")
    cookie = first.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert at(gone.headers["location"], None).startswith(CALLBACK)
