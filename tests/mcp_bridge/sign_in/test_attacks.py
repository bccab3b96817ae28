"""What an attacker does to the authorization server, by HTTP: each class once, where no other test has it."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from explorer.catalog import CatalogUnavailable
from explorer.catalog.access.rates import RateStore
from tests.conftest import PgServer
from tests.mcp_bridge.sign_in.house import House, Person, answer_in, exchange, token_request, tokens_for
from tests.mcp_bridge.sign_in.test_flow import mcp


def renewed(house: House, client_id: str, token: str) -> Any:
    return token_request(house.url, grant_type="refresh_token", client_id=client_id, refresh_token=token)


def test_mix_up_an_answer_counts_where_the_browser_was_sent(house: House, person: Person) -> None:
    """A provider that is not honest sends the browser on to another one, with the state that was meant for itself."""
    for chosen, answering in ((house.second, house.provider), (house.provider, house.second)):
        away = person.sends(person.asks(house.client()), provider=chosen.name)
        back = answering.comes_back(away.headers["location"])
        mixed = back.replace(f"/callback/{chosen.name}", f"/callback/{answering.name}")
        refused = person.goes(mixed)
        assert (refused.status_code, "location" in refused.headers) == (400, False)
        # Nobody was shown the code.
        assert len(answering.codes) == 1
        answering.codes.clear()


def test_a_stolen_refresh_token_ends_the_grant_for_both(house: House, person: Person, pg_server: PgServer) -> None:
    client_id = house.client()
    tokens = tokens_for(house, person, client_id)
    fresh = renewed(house, client_id, tokens["refresh_token"]).json()
    # Hosts that refresh twice at once are no thieves.
    again = renewed(house, client_id, tokens["refresh_token"])
    assert again.status_code == 200
    with pg_server.connections.admin.connect(autocommit=True) as connection:
        connection.execute("update catalog.oauth_tokens set rotated_at = rotated_at - interval '3 minutes'")
    assert renewed(house, client_id, tokens["refresh_token"]).json()["error"] == "invalid_grant"
    for each in (fresh, again.json()):
        assert mcp(house.url, each["access_token"]).status_code == 401
        assert renewed(house, client_id, each["refresh_token"]).json()["error"] == "invalid_grant"
    assert house.actions(client_id) == ["sign_in", "refresh_reuse"]


def test_of_many_who_present_a_code_at_once_one_gets_tokens_and_they_end(house: House, person: Person) -> None:
    client_id = house.client()
    code = person.connects(client_id)["code"]
    with ThreadPoolExecutor(4) as pool:
        urls = [house.url, house.other_url] * 2
        answers = list(pool.map(lambda url: exchange(house, client_id, code, url), urls))
    (won,) = [answer.json() for answer in answers if answer.status_code == 200]
    assert mcp(house.url, won["access_token"]).status_code == 401


def test_many_refreshes_at_once_are_one_grant(house: House, person: Person) -> None:
    client_id = house.client()
    token = tokens_for(house, person, client_id)["refresh_token"]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: renewed(house, client_id, token), range(4)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refresh_token"] for answer in answers}) == 4
    assert all(mcp(house.other_url, answer.json()["access_token"]).status_code == 200 for answer in answers)


def test_a_cookie_that_was_there_before_is_no_session(house: House, person: Person) -> None:
    """Fixation: whoever sets a cookie in a person's browser does not know the one of the person's sign-in."""
    page = person.asks(house.client())
    (name,) = [name for name in person.http.cookies if "sign-in" in name]
    planted = "p" * 43
    other = Person(house)
    other.http.cookies.set(name, planted, domain="127.0.0.1")
    other.asks(house.client())
    values = [cookie.value for cookie in other.http.cookies.jar]
    assert (len(values), len(set(values)), values.count(planted)) == (2, 2, 1)
    assert other.sends(page, provider="www").status_code == 400
    # A sign-in that is over takes its cookie along.
    answer_in(person.sends(person.signs_in(page), decision="connect"))
    assert name not in person.http.cookies


@pytest.mark.parametrize(
    "uri",
    [
        "https://claude.ai.evil.example/api/mcp/auth_callback", "https://claude.ai@evil.example/api/mcp/auth_callback",
        "https://claude.ai/api/mcp/auth_callback/../../redirect", "https://claude.ai/api/mcp/auth_callback?next=//evil.example",
        "https://claude.ai/api/mcp/auth_callback#x", "//evil.example/api/mcp/auth_callback", "javascript:alert(1)//claude.ai",
        "https://claude.ai\\@evil.example/", "http://claude.ai/api/mcp/auth_callback", "http://localhost.evil.example:4711/callback",
    ],
)  # fmt: skip
def test_no_answer_goes_to_an_address_that_only_looks_right(person: Person, uri: str) -> None:
    for wrong in ({}, {"response_type": "token"}):
        page = person.asks("https://claude.ai/oauth/mcp-oauth-client-metadata", redirect_uri=uri, **wrong)
        assert (page.status_code, "location" in page.headers) == (400, False)


def test_tokens_are_asked_for_at_a_bounded_rate(house: House, person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_bridge.sign_in.endpoints.tokens.EXCHANGES_A_MINUTE", {"address": 10_000, "client": 3})
    client_id = house.client()
    # What anybody may send in a program's name shuts nobody out of it.
    assert {renewed(house, client_id, "dxr_nothing").status_code for _ in range(5)} == {400}
    token, answers = tokens_for(house, person, client_id)["refresh_token"], []
    for _ in range(4):
        answers.append(renewed(house, client_id, token))
        token = answers[-1].json().get("refresh_token", token)
    # The first tokens of all were the code's.
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert int(answers[-1].headers["retry-after"]) > 0
    assert renewed(house, house.client(), "dxr_nothing").status_code == 400


def test_tokens_that_cannot_be_counted_are_sent_all_the_same(
    house: House, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code is used up by then: an error in their place would lose them."""
    take = RateStore.take

    def taken(store: RateStore, key: str, limit: int, window_s: float) -> float:
        if key.startswith("tokens for client"):
            raise CatalogUnavailable("The catalog's database does not answer.", next_step="Start it.")
        return take(store, key, limit, window_s)

    monkeypatch.setattr(RateStore, "take", taken)
    assert "refresh_token" in tokens_for(house, person, house.client())
