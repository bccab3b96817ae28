"""The identity provider opens the Dagster UI: a client of its own kind, whose sessions open nothing else."""

from urllib.parse import urlsplit

import httpx
import pytest

from explorer.catalog import UiRole
from explorer.contract.headers import UI_CLIENT, UI_RETURN_PATH
from mcp_bridge.sign_in.providers.claims import rights_by, ui_role_by
from mcp_bridge.sign_in.settings_file import Rule
from tests.mcp_bridge.sign_in.house import UI, UI_SESSION_S, House, Person, answer_in, exchange, programs, tokens_for
from tests.mcp_bridge.sign_in.test_flow import mcp

RETURN = f"{UI}{UI_RETURN_PATH}"


def comes_to_the_ui(house: House, person: Person) -> httpx.Response:
    """What the person's browser gets after signing in."""
    page = person.asks(UI_CLIENT, redirect_uri=RETURN, scope=None, resource=None)
    assert page.status_code == 200, page.text
    away = person.sends(page, provider="www")
    assert away.status_code == 303, away.text
    return person.goes(house.provider.comes_back(away.headers["location"]))


def session_of(house: House, person: Person) -> str:
    answer = answer_in(comes_to_the_ui(house, person))
    given = exchange(house, UI_CLIENT, answer["code"], redirect_uri=RETURN, resource=None).json()
    assert (given["expires_in"], given["scope"], "refresh_token" in given) == (UI_SESSION_S, "", False)
    return str(given["access_token"])


def asked(house: House, token: str) -> dict[str, object]:
    answer = programs.post(f"{house.url}/oauth/introspect", data={"token": token})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.mark.parametrize("role", UiRole)
def test_a_persons_role_opens_the_ui_and_nothing_else(house: House, person: Person, role: UiRole) -> None:
    house.provider.ui = role
    token = session_of(house, person)
    name = "person:www:jane@example.org"
    assert asked(house, token) == {"active": True, "username": name, "scope": role.value}
    assert mcp(house.url, token).status_code == 401
    # And what opens the bridge does not open the UI.
    assert asked(house, tokens_for(house, person, house.client())["access_token"]) == {"active": False}
    found = [
        record.entry for record in house.catalog.audit.read(actor=name, limit=5) if record.entry.action == "sign_in"
    ]
    assert found[1].detail["role"] == role.value
    ended = programs.post(f"{house.url}/oauth/revoke", data={"client_id": UI_CLIENT, "token": token})
    assert (ended.status_code, asked(house, token)) == (200, {"active": False})


def test_a_session_ends_with_its_role_and_its_person(house: House, person: Person) -> None:
    house.provider.ui = UiRole.OPERATE
    token = session_of(house, person)
    found = house.catalog.oauth_grants.ui_session(token)
    assert found is not None
    jane = found.person.principal
    assert house.catalog.identities.save_check(jane.id, jane.grants, UiRole.OPERATE) == 0
    assert asked(house, token)["active"]
    # Who is asked again may look from now on: what let them change things has ended.
    assert house.catalog.identities.save_check(jane.id, jane.grants, UiRole.VIEW) == 1
    assert asked(house, token) == {"active": False}
    for end in (
        lambda: house.catalog.identities.save_check(jane.id, jane.grants),
        lambda: house.catalog.identities.revoke(jane.name),
    ):
        token = session_of(house, person)
        assert asked(house, token)["active"]
        end()
        assert asked(house, token) == {"active": False}
    token = session_of(house, person)
    house.membership.ended = True
    assert asked(house, token) == {"active": False}
    house.membership.ended, house.membership.is_down = False, True
    answer = programs.post(f"{house.url}/oauth/introspect", data={"token": token})
    assert answer.status_code == 503


def test_strangers_do_not_use_up_the_questions_about_people(
    house: House, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_bridge.sign_in.endpoints.ui.REFUSALS_A_MINUTE", 3)
    house.provider.ui = UiRole.VIEW
    token = session_of(house, person)

    def status(token: str) -> int:
        # One webserver asks for all.
        return person.http.post(f"{house.url}/oauth/introspect", data={"token": token}).status_code

    assert [status(each) for each in (token, "dxa_a", token, "dxa_b", token, "dxa_c")] == [200] * 6
    assert [status(each) for each in ("dxa_d", token, token, token, token)] == [429, 200, 200, 200, 200]


def test_who_has_no_role_reads_so(house: House, person: Person) -> None:
    page = comes_to_the_ui(house, person)
    assert (page.status_code, "is not open to your groups or roles" in page.text) == (400, True)
    assert "sign_in_refused" in house.actions(UI_CLIENT)
    house.provider.opens_ui = False
    page = person.asks(UI_CLIENT, redirect_uri=RETURN, scope=None, resource=None)
    assert (page.status_code, "explorer ui" in page.text) == (403, True)


@pytest.mark.parametrize("uri", [f"{UI}/", f"{UI}.evil.example{UI_RETURN_PATH}", "http://localhost:4711/callback"])
def test_the_answer_goes_to_the_ui_alone(person: Person, uri: str) -> None:
    page = person.asks(UI_CLIENT, redirect_uri=uri, scope=None, resource=None)
    assert (page.status_code, "not its own" in page.text) == (400, True)


def test_a_code_of_the_ui_is_no_other_clients(house: House, person: Person) -> None:
    house.provider.ui = UiRole.VIEW
    gone = comes_to_the_ui(house, person)
    assert urlsplit(gone.headers["location"]).netloc == urlsplit(UI).netloc
    assert exchange(house, house.client(), answer_in(gone)["code"], redirect_uri=RETURN).status_code == 400


def test_of_several_rules_the_larger_role_counts() -> None:
    rules = [
        Rule.model_validate({"claim": "g", "any": ["staff"], "ui": "view"}),
        Rule.model_validate(
            {"claim": "g", "matches": "op-.*", "ui": "operate", "tenants": ["c"], "scopes": ["query:run"]}
        ),
    ]
    assert ui_role_by(rules, {"g": ["staff"]}) is UiRole.VIEW
    assert ui_role_by(rules, {"g": ["op-1", "staff"]}) is UiRole.OPERATE
    assert ui_role_by(rules, {"g": ["x-op-1"]}) is None
    assert rights_by(rules, {"g": ["staff"]}, {"c"}) == {}
    assert rights_by(rules, {"g": ["op-1"]}, {"c"}).keys() == {"c"}
