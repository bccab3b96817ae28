"""People: the log-in and consent pages, the code grant with PKCE, what a token then shows, and the switches that take it away."""

from collections.abc import Iterator

import httpx
import pytest

from demo_commcare import MATERNAL, NUTRITION, RunningServer, serve_in_thread
from demo_commcare.sign_in.accounts import DATA_OFFICER as OFFICER
from demo_commcare.sign_in.accounts import GUEST, READER, SUPERVISOR
from tests.demo_browser import Browser


@pytest.fixture
def server() -> Iterator[RunningServer]:
    with serve_in_thread() as running:
        yield running


def test_a_person_signs_in_and_the_token_is_theirs(server: RunningServer) -> None:
    browser = Browser(server)
    tokens = browser.signed_in(OFFICER, MATERNAL, NUTRITION)
    assert tokens["scope"] == f"access_apis domain:{MATERNAL} domain:{NUTRITION}"
    identity = browser.get("/api/identity/v1/", tokens["access_token"]).json()
    assert identity["username"] == OFFICER
    assert (
        identity["id"]
        != httpx.get(f"{server.url}/api/identity/v1/", headers=server.headers, trust_env=False).json()["id"]
    )
    assert browser.domains(tokens["access_token"]) == [MATERNAL, NUTRITION]
    assert browser.get(f"/a/{MATERNAL}/api/case/v2/?limit=1", tokens["access_token"]).status_code == 200
    assert browser.get(f"/a/{MATERNAL}/api/web-user/v1/", tokens["access_token"]).status_code == 403


def test_only_the_chosen_project_spaces_are_listed_and_open(server: RunningServer) -> None:
    browser = Browser(server)
    tokens = browser.signed_in(OFFICER, NUTRITION)
    assert browser.domains(tokens["access_token"]) == [NUTRITION]
    assert browser.get(f"/a/{MATERNAL}/api/case/v2/?limit=1", tokens["access_token"]).status_code == 403
    server.control.set_switches(user_domains_of_token=False)
    assert browser.domains(tokens["access_token"]) == [MATERNAL, NUTRITION]


def test_an_older_server_has_no_picker(server: RunningServer) -> None:
    server.control.set_switches(domain_picker=False, user_domains_paged=True)
    browser = Browser(server)
    tokens = browser.signed_in(OFFICER)
    assert tokens["scope"] == "access_apis"
    assert browser.domains(tokens["access_token"]) == [MATERNAL, NUTRITION]


def test_a_space_that_is_not_ones_own_cannot_be_chosen(server: RunningServer) -> None:
    browser = Browser(server)
    assert browser.domains(browser.signed_in(READER, MATERNAL, NUTRITION)["access_token"]) == [MATERNAL]
    guest = Browser(server)
    assert guest.domains(guest.signed_in(GUEST, MATERNAL)["access_token"]) == []


def test_wrong_password_denied_consent_and_forged_form(server: RunningServer) -> None:
    browser = Browser(server)
    assert "correct email address" in browser.log_in(READER, "wrong").text
    page = browser.log_in(READER)
    assert browser.decide(page, cancel="Cancel") == {"error": "access_denied", "state": "xyz"}
    assert browser.http.post(str(page.request.url), data={"token": "forged", "allow": "1"}).status_code == 403


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "other"},
        {"redirect_uri": "https://evil.example/oauth/callback/demo"},
        {"redirect_uri": "http://127.0.0.1:4711/elsewhere"},
        {"redirect_uri": "http://x@127.0.0.1:4711/oauth/callback/demo"},
        {"response_type": "token"},
        {"scope": "reports:view"},
        {"code_challenge_method": "plain"},
    ],
)
def test_a_wrong_request_is_answered_here_and_never_redirected(server: RunningServer, changes: dict[str, str]) -> None:
    browser = Browser(server)
    answer = browser.http.get("/oauth/authorize/", params=browser.params(**changes))
    assert (answer.status_code, "location" in answer.headers) == (400, False)


def test_a_code_works_once_with_its_verifier_and_address(server: RunningServer) -> None:
    browser = Browser(server)
    page = browser.log_in(READER)
    for changes in ({"code_verifier": "x" * 43}, {"redirect_uri": "http://127.0.0.1:1/oauth/callback/demo"}):
        code = browser.decide(page, allow="1", domain=MATERNAL)["code"]
        assert browser.exchange(code, **changes).json() == {"error": "invalid_grant"}
        assert browser.exchange(code).status_code == 400
    code = browser.decide(page, allow="1", domain=MATERNAL)["code"]
    assert browser.exchange(code, client_secret="wrong").json() == {"error": "invalid_client"}
    assert browser.exchange(code).status_code == 200
    assert browser.exchange(code).status_code == 400


def test_renewal_rotates_and_revocation_ends(server: RunningServer) -> None:
    browser = Browser(server)
    first = browser.signed_in(READER, MATERNAL)
    second = browser.token(grant_type="refresh_token", refresh_token=first["refresh_token"]).json()
    assert second["scope"] == first["scope"]
    assert browser.get("/api/identity/v1/", first["access_token"]).status_code == 401
    assert browser.token(grant_type="refresh_token", refresh_token=first["refresh_token"]).status_code == 400
    client_id, secret = server.control.oauth_client
    form = {"client_id": client_id, "client_secret": secret, "token": second["refresh_token"]}
    assert browser.http.post("/oauth/revoke_token/", data=form | {"client_secret": "no"}).status_code == 401
    assert browser.get("/api/identity/v1/", second["access_token"]).status_code == 200
    assert browser.http.post("/oauth/revoke_token/", data=form).status_code == 200
    assert browser.get("/api/identity/v1/", second["access_token"]).status_code == 401


def test_deactivation_ends_tokens_and_renewals(server: RunningServer) -> None:
    browser = Browser(server)
    tokens = browser.signed_in(READER, MATERNAL)
    server.control.deactivate_account(READER)
    assert browser.get("/api/identity/v1/", tokens["access_token"]).status_code == 401
    assert browser.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"]).status_code == 400
    assert Browser(server).log_in(READER).status_code == 200
    assert 'name="password"' in Browser(server).log_in(READER).text
    server.control.reactivate_account(READER)
    assert Browser(server).signed_in(READER, MATERNAL)


def test_a_member_is_removed_comes_back_and_changes_role(server: RunningServer) -> None:
    browser = Browser(server)
    access = browser.signed_in(OFFICER, MATERNAL, NUTRITION)["access_token"]

    def roles() -> dict[str, str]:
        answer = httpx.get(f"{server.url}/a/{MATERNAL}/api/web-user/v1/", headers=server.headers, trust_env=False)
        return {user["username"]: user["role"] for user in answer.json()["objects"]}

    server.control.remove_member(MATERNAL, OFFICER)
    assert browser.domains(access) == [NUTRITION]
    assert OFFICER not in roles()
    server.control.add_member(MATERNAL, OFFICER)
    assert browser.domains(access) == [MATERNAL, NUTRITION]
    server.control.set_role(MATERNAL, OFFICER, "Admin", is_admin=True)
    assert roles()[OFFICER] == "Admin"
    assert browser.get(f"/a/{MATERNAL}/api/web-user/v1/", access).status_code == 200


def test_the_supervisor_is_bound_to_a_location(server: RunningServer) -> None:
    answer = httpx.get(
        f"{server.url}/a/{MATERNAL}/api/web-user/v1/",
        params={"web_username": SUPERVISOR},
        headers=server.headers,
        trust_env=False,
    )
    (found,) = answer.json()["objects"]
    assert found["permissions"]["access_all_locations"] is False
    assert found["assigned_location_ids"]


def test_a_hanging_server_answers_late(server: RunningServer) -> None:
    server.control.fail("identity", kind="hang", seconds=5)
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{server.url}/api/identity/v1/", headers=server.headers, trust_env=False, timeout=0.3)
