"""Each refusal of a server gets the right code and message, and is retried or not; over HTTP."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import msgspec
import pytest

from demo_commcare import MATERNAL, RunningServer, serve_in_thread
from explorer.catalog.secrets.credentials import ApiKeyCredential
from explorer.core.settings import Settings
from explorer.http.errors import ApiError
from explorer.providers.commcare.client import CommCareClient

SETTINGS = Settings(_env_file=None, requests_per_second=1000, http_max_attempts=3, http_max_retry_after_s=20)
LOGIN = (
    '<!DOCTYPE html><html><head><title>Log In :: CommCare HQ</title></head><body><input type="password"></body></html>'
)
PAGE = "<html><head><title>Oops</title></head></html>"
KEY_REFUSED = "does not accept the credential"
# status, headers, body: code, words, tries
TABLE = [
    (401, {}, "", "credentials_invalid", KEY_REFUSED, 1),
    (401, {}, PAGE, "credentials_invalid", KEY_REFUSED, 1),
    (401, {}, LOGIN, "credentials_invalid", KEY_REFUSED, 1),
    (401, {}, '{"error":"not authorized"}', "credentials_invalid", KEY_REFUSED, 1),
    (401, {}, '{"error":"Invalid API key"}', "credentials_invalid", KEY_REFUSED, 1),
    (401, {}, '{"detail":"Authentication credentials were not provided."}', "credentials_invalid", KEY_REFUSED, 1),
    (401, {}, '{"error":"No domain permission for this subscription key"}', "credentials_invalid", KEY_REFUSED, 1),
    (401, {}, '["no", 1]', "credentials_invalid", KEY_REFUSED, 1),
    (401, {}, '{"error":"maximum password attempts exceeded"}', "credentials_invalid", "locked the user out", 1),
    (401, {}, '{"error":"must send X-COMMCAREHQ-OTP header"}', "credentials_invalid", "use an API key", 1),
    (401, {}, '{"error":"Your current subscription does not have access to this feature"}', "no_subscription", "plan", 1),
    (402, {}, "", "no_subscription", "plan", 1),
    (403, {}, '{"error":"Your current subscription does not have access"}', "no_subscription", "plan", 1),
    (403, {}, "", "permission_missing", "denies access", 1),
    (403, {}, LOGIN, "permission_missing", "denies access", 1),
    (404, {}, '{"error":"The domain \\"x\\" was not found."}', "domain_unknown", "no project space", 1),
    (404, {}, '{"error":"Case \'domain\' not found"}', "resource_unknown", "nothing at this address", 1),
    (404, {}, PAGE, "resource_unknown", "nothing at this address", 1),
    (410, {}, "", "resource_unknown", "HTTP 410", 1),
    (404, {}, '{"error_message":"Sorry"}', "server_error", "failed inside", 3),
    (407, {}, "", "not_commcare", "proxy", 1),
    (511, {}, LOGIN, "not_commcare", "proxy or the network", 1),
    (302, {"Location": "/a/dom/login/?next=/x/"}, "", "credentials_invalid", "login page", 1),
    (302, {"Location": "https://sso.example/adfs/saml"}, "", "not_commcare", "sso.example to a login page", 1),
    (301, {"Location": "https://new.example/a/"}, "", "not_commcare", "redirects to new.example", 1),
    (200, {}, LOGIN, "not_commcare", "is a login page", 1),
    (200, {}, PAGE, "not_commcare", "is a web page", 1),
    (200, {"Content-Type": "text/html"}, "Sign in, please", "not_commcare", "is a web page", 1),
    (200, {"Content-Type": "text/csv"}, "a,b", "response_malformed", "no JSON but text/csv", 1),
    (200, {"Content-Type": "application/xml"}, "<?xml version='1.0'?><r/>", "response_malformed", "application/xml", 1),
    (200, {}, '{"objects": [', "response_malformed", "breaks off", 3),
    (200, {}, '{"objects": [], "n": 12.', "response_malformed", "breaks off", 3),
    (200, {}, "", "response_malformed", "breaks off", 3),
    (200, {"Content-Type": "application/json"}, '{"objects": nope}', "response_malformed", "JSON is broken", 1),
    (200, {}, "[" * 100_000 + "]" * 100_000, "response_malformed", "nested too deeply", 1),
    (400, {}, '{"error":"bad"}', "request_refused", "HTTP 400", 1),
    (414, {}, "", "request_refused", "HTTP 414", 1),
    (408, {}, "", "server_error", "HTTP 408", 3),
    (500, {}, PAGE, "server_error", "HTTP 500", 3),
    (501, {}, "", "server_error", "HTTP 501", 1),
    (503, {"Retry-After": "5"}, "", "server_error", "is back at", 3),
    (503, {"Retry-After": "7200"}, "", "server_error", "is back at", 1),
    (503, {"Retry-After": "soon"}, "", "server_error", "HTTP 503", 3),
    (429, {"Retry-After": "7200"}, "", "throttled", "wants none until", 1),
    (429, {"Retry-After": "9e99"}, LOGIN, "throttled", "wants none until", 1),
]  # fmt: skip


@pytest.fixture(scope="module")
def demo() -> Iterator[RunningServer]:
    with serve_in_thread(cases=30) as server:
        yield server


@pytest.mark.parametrize(("status", "headers", "body", "code", "words", "tries"), TABLE)
def test_each_refusal(
    demo: RunningServer, status: int, headers: dict[str, str], body: str, code: str, words: str, tries: int
) -> None:
    demo.control.clear_faults()
    demo.control.fail("/group/v1/", status=status, headers=headers, body=body, times=99)
    waits: list[float] = []
    before = len(demo.control.requests)
    credential = ApiKeyCredential(demo.username, demo.api_key)
    client = CommCareClient(demo.url, MATERNAL, credential, settings=SETTINGS, sleep=waits.append)
    with client, pytest.raises(ApiError) as caught:
        client.get("group/v1/", resource="groups", page=3, decode=msgspec.json.decode)
    error = caught.value
    assert (error.code, len(demo.control.requests) - before) == (f"commcare_{code}", tries)
    assert words in str(error)
    assert error.next_step
    assert (error.details["resource"], error.details["page"]) == ("groups", 3)
    assert demo.api_key not in f"{error!r} {error.as_dict()}"
    if status == 503 and headers["Retry-After"] == "5":
        assert min(wait for wait in waits if wait > 1) >= 5


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_throttle_of_hours_names_server_project_space_user_end_and_command(demo: RunningServer, form: str) -> None:
    until = datetime.now(UTC) + timedelta(hours=3)
    header = "10800.5" if form == "seconds" else format_datetime(until, usegmt=True)
    demo.control.clear_faults()
    demo.control.fail("/group/v1/", status=429, headers={"Retry-After": header}, body="", times=99)
    credential = ApiKeyCredential(demo.username, demo.api_key)
    with CommCareClient(demo.url, MATERNAL, credential, settings=SETTINGS, sleep=lambda _: None) as client:
        said = []
        for _ in range(2):
            with pytest.raises(ApiError) as caught:
                client.get_json("group/v1/", resource="groups")
            said.append(caught.value)
    for word in (MATERNAL, demo.username, "127.0.0.1", f"{until:%Y-%m-%d %H:}"):
        assert word in said[0].message
    assert said[0].details["username"] == demo.username
    assert abs(datetime.fromisoformat(said[0].details["until"]) - until) < timedelta(seconds=60)
    # The second was not sent: hours are kept for one hour, then the server is asked again.
    assert "none are sent until" in said[1].message


@pytest.mark.parametrize("header", ["-5", "0", "Wed, 21 Oct 2015 07:28:00 GMT", "nan", ""])
def test_a_throttle_until_the_past_is_waited_out_shortly(demo: RunningServer, header: str) -> None:
    demo.control.clear_faults()
    demo.control.fail("/group/v1/", status=429, headers={"Retry-After": header}, body="", times=2)
    waits: list[float] = []
    credential = ApiKeyCredential(demo.username, demo.api_key)
    with CommCareClient(demo.url, MATERNAL, credential, settings=SETTINGS, sleep=waits.append) as client:
        assert client.get_json("group/v1/", resource="groups")["objects"]
    assert max(waits) < 5
