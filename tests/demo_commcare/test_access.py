"""Authentication, refusals, throttling and OAuth against the error catalogue of the reference."""

import base64
import time

import httpx
import pytest

from demo_commcare import FOREIGN, MATERNAL, NO_SUBSCRIPTION, NUTRITION, serve_in_thread
from tests.demo_commcare.conftest import PLAIN, Client

FORM, CASE = f"/a/{MATERNAL}/api/form/v1/", f"/a/{MATERNAL}/api/case/v2/"


def get(client: Client, path: str, authorization: str | None = None) -> httpx.Response:
    headers = {} if authorization is None else {"Authorization": authorization}
    return PLAIN.get(client.server.url + path, headers=headers)


@pytest.mark.parametrize("path", [FORM, CASE])
@pytest.mark.parametrize("scheme", ["ApiKey", "apikey", "APIKEY"])
def test_scheme_word_in_any_case(shared: Client, path: str, scheme: str) -> None:
    assert get(shared, path, f"{scheme} demo@example.org:{shared.server.api_key}").status_code == 200


@pytest.mark.parametrize("path", [FORM, CASE])
def test_missing_and_wrong_credentials(shared: Client, path: str) -> None:
    anonymous = get(shared, path)
    assert (anonymous.status_code, anonymous.content) == (401, b"")
    assert anonymous.headers["www-authenticate"].startswith("Digest ")
    for wrong in ("ApiKey demo@example.org:wrong", "ApiKey somebody@example.org:x", "Bearer wrong", "nonsense"):
        answer = get(shared, path, wrong)
        assert (answer.status_code, answer.content) == (401, b"")
        assert "www-authenticate" not in answer.headers


def test_key_in_the_query_works_for_tastypie_only(shared: Client) -> None:
    query = f"?username=demo@example.org&api_key={shared.server.api_key}"
    assert get(shared, FORM + query).status_code == 200
    assert get(shared, CASE + query).status_code == 401


def test_password_needs_the_second_factor(shared: Client) -> None:
    answer = get(shared, FORM, "Basic " + base64.b64encode(b"demo@example.org:pw").decode())
    assert (answer.status_code, answer.json()) == (
        401,
        {"error": "must send X-COMMCAREHQ-OTP header or 'otp' URL parameter"},
    )
    other = get(shared, FORM, "Basic " + base64.b64encode(b"x:pw").decode())
    assert other.headers["www-authenticate"].startswith("Basic")


@pytest.mark.parametrize("domain", [FOREIGN, "no-such-domain"])
def test_foreign_and_unknown_domains(shared: Client, domain: str) -> None:
    form = shared.get("form/v1/", domain)
    assert (form.status_code, form.content) == (403, b"")
    case = shared.get("case/v2/", domain)
    if domain == FOREIGN:
        assert case.status_code == 403
        assert case.headers["content-type"].startswith("text/html")
    else:
        assert (case.status_code, case.json()) == (404, {"error": f'The domain "{domain}" was not found.'})


@pytest.mark.parametrize("authorization", [None, "right"])
def test_no_subscription_is_said_before_authentication(shared: Client, authorization: str | None) -> None:
    header = None if authorization is None else shared.server.headers["Authorization"]
    answer = get(shared, f"/a/{NO_SUBSCRIPTION}/api/form/v1/", header)
    text = "Your current subscription does not have access to this feature"
    assert (answer.status_code, answer.json()) == (401, {"error": text})


def test_cut_off_and_restored(fresh: Client) -> None:
    fresh.server.control.cut_off(MATERNAL)
    answer = fresh.get("case/v2/")
    assert answer.status_code == 401
    assert answer.json()["error"].startswith("API access has been temporarily cut off due to too many requests.")
    assert fresh.get("case/v2/", NUTRITION).status_code == 200
    fresh.server.control.restore(MATERNAL)
    assert fresh.get("case/v2/").status_code == 200


def test_denied_resource(fresh: Client) -> None:
    fresh.server.control.deny(MATERNAL, "user")
    fresh.server.control.deny(MATERNAL, "case")
    user, case = fresh.get("user/v1/"), fresh.get("case/v2/")
    assert (user.status_code, user.content) == (403, b"")
    assert (case.status_code, case.headers["content-type"]) == (403, "text/html; charset=utf-8")
    assert fresh.get("group/v1/").status_code == 200
    fresh.server.control.allow(MATERNAL, "user")
    assert fresh.get("user/v1/").status_code == 200


def test_global_resources(shared: Client) -> None:
    for path in ("/api/user_domains/v1/", "/api/v0.5/user_domains/"):
        answer = shared.http.get(path + "?limit=1").json()
        assert answer["meta"] == {"total_count": 2}
        assert {row["domain_name"] for row in answer["objects"]} == {MATERNAL, NUTRITION}
    for path in ("/api/identity/v1/", "/api/v0.5/identity/"):
        assert shared.http.get(path).json()["username"] == "demo@example.org"
        wrong = get(shared, path, "ApiKey demo@example.org:wrong")
        assert (wrong.status_code, wrong.text) == (401, "Username or API Key is incorrect, expired or deactivated")
        assert wrong.headers["content-type"].startswith("text/plain")
    flagged = shared.http.get("/api/user_domains/v1/?feature_flag=x")
    assert (flagged.status_code, flagged.json()) == (400, {"error": "'x' is not a valid feature flag"})


def test_user_domains_paged_as_formerly(fresh: Client) -> None:
    fresh.server.control.set_switches(user_domains_paged=True)
    answer = fresh.http.get("/api/user_domains/v1/?limit=1").json()
    assert len(answer["objects"]) == 1
    assert answer["meta"]["next"] == "/api/user_domains/v1/?limit=1&offset=1"


def test_throttle_per_domain_with_float_header(fresh: Client) -> None:
    fresh.server.control.throttle({"week": 3})
    assert [fresh.get("form/v1/", limit=1).status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = fresh.get("case/v2/")
    assert (refused.status_code, refused.content) == (429, b"")
    assert 0 < float(refused.headers["retry-after"]) <= 604_800
    assert fresh.get("case/v2/", NUTRITION).status_code == 200
    assert fresh.http.get("/api/identity/v1/").status_code == 200
    fresh.server.control.no_throttle()
    assert fresh.get("case/v2/").status_code == 200


@pytest.mark.parametrize(("setting", "header"), [("absent", None), (9000.5, "9000.5"), (7200, "7200")])
def test_retry_after_variants(fresh: Client, setting: float | str, header: str | None) -> None:
    fresh.server.control.throttle({"day": 0}, setting)
    assert fresh.get("form/v1/").headers.get("retry-after") == header


def test_rejected_requests_do_not_count(fresh: Client) -> None:
    fresh.server.control.throttle({"week": 1})
    for _ in range(3):
        assert get(fresh, FORM, "ApiKey demo@example.org:wrong").status_code == 401
    assert fresh.get("form/v1/").status_code == 200


def test_limits_like_hq(fresh: Client) -> None:
    fresh.server.control.throttle_like_hq(workers=0)
    statuses = [fresh.get("user/v1/").status_code for _ in range(60)]
    assert (statuses[0], statuses.count(200) <= 30, statuses[-1]) == (200, True, 429)
    with pytest.raises(ValueError, match="unknown windows: fortnight"):
        fresh.server.control.throttle({"fortnight": 1})


def refresh(client: Client, token: str, secret: str | None = None) -> httpx.Response:
    client_id, client_secret = client.server.control.oauth_client
    data = {"grant_type": "refresh_token", "refresh_token": token, "client_id": client_id}
    return PLAIN.post(f"{client.server.url}/oauth/token/", data={**data, "client_secret": secret or client_secret})


def test_refresh_rotates_and_tokens_expire(fresh: Client) -> None:
    control = fresh.server.control
    granted = refresh(fresh, control.issue_refresh_token()).json()
    assert (granted["expires_in"], granted["token_type"], granted["scope"]) == (900, "Bearer", "access_apis")
    bearer = f"Bearer {granted['access_token']}"
    assert [get(fresh, path, bearer).status_code for path in (FORM, CASE, "/api/identity/v1/")] == [200, 200, 200]
    control.expire_access_tokens()
    expired = get(fresh, FORM, bearer)
    assert (expired.status_code, expired.content) == (401, b"")
    again = refresh(fresh, granted["refresh_token"]).json()
    assert get(fresh, CASE, f"bearer {again['access_token']}").status_code == 200
    used = refresh(fresh, granted["refresh_token"])
    assert (used.status_code, used.json()) == (400, {"error": "invalid_grant"})


def test_lifetime_client_and_grant_are_checked(fresh: Client) -> None:
    control = fresh.server.control
    wrong = refresh(fresh, control.issue_refresh_token(), secret="wrong")
    assert (wrong.status_code, wrong.json()) == (401, {"error": "invalid_client"})
    url = f"{fresh.server.url}/oauth/token/"
    assert PLAIN.post(url, auth=control.oauth_client, data={"grant_type": "password"}).json() == {
        "error": "unsupported_grant_type"
    }
    control.set_access_token_lifetime(0.05)
    token = refresh(fresh, control.issue_refresh_token()).json()["access_token"]
    time.sleep(0.1)
    assert get(fresh, FORM, f"Bearer {token}").status_code == 401


def test_domain_scope(fresh: Client) -> None:
    granted = refresh(fresh, fresh.server.control.issue_refresh_token([NUTRITION])).json()
    bearer = f"Bearer {granted['access_token']}"
    assert f"domain:{NUTRITION}" in granted["scope"]
    assert get(fresh, f"/a/{NUTRITION}/api/form/v1/", bearer).status_code == 200
    assert get(fresh, FORM, bearer).status_code == 403


def test_authorization_server_metadata(shared: Client) -> None:
    document = PLAIN.get(f"{shared.server.url}/.well-known/oauth-authorization-server").json()
    assert document["issuer"] == shared.server.url
    assert document["token_endpoint"] == f"{shared.server.url}/oauth/token/"
    assert "access_apis" in document["scopes_supported"]


def test_key_of_another_server_is_refused(shared: Client) -> None:
    with serve_in_thread() as other:
        answer = PLAIN.get(f"{other.url}{FORM}", headers=shared.server.headers)
        assert (answer.status_code, answer.content) == (401, b"")


def test_secrets_stay_out_of_representations(shared: Client) -> None:
    assert shared.server.api_key not in repr(shared.server)
