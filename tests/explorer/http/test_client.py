"""One request to a server that refuses, fails, throttles, lies or attacks; secrets never leak."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import msgspec
import pytest

from demo_commcare import MATERNAL, RunningServer, serve_in_thread
from explorer.catalog.secrets.credentials import ApiKeyCredential, OAuthCredential
from explorer.core.settings import Settings
from explorer.http.errors import (
    ApiError,
    CredentialsInvalid,
    ResponseMalformed,
    Throttled,
)
from explorer.providers.commcare.client import CommCareClient

SETTINGS = Settings(
    _env_file=None, requests_per_second=1000, http_max_attempts=3, http_max_retry_after_s=20, http_max_response_mb=1
)
KEY = ApiKeyCredential("user@example.org", "s3cr3t-key")


def client_of(
    handler: Callable[[httpx.Request], httpx.Response], credential: Any = KEY, **options: Any
) -> CommCareClient:
    return CommCareClient(
        "https://hq.example.org", "dom", credential, settings=SETTINGS, sleep=lambda _: None,
        transport=httpx.MockTransport(handler), **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("status", "headers", "body", "code"),
    [
        (401, {}, b"", "commcare_credentials_invalid"),
        (401, {}, b"Username or API Key is incorrect, expired or deactivated", "commcare_credentials_invalid"),
        (401, {}, b'{"error":"not authorized"}', "commcare_credentials_invalid"),
        (
            401,
            {},
            b'{"error":"Your current subscription does not have access to this feature"}',
            "commcare_no_subscription",
        ),
        (401, {}, b'{"error":"API access has been temporarily cut off due to too many requests."}', "commcare_cut_off"),
        (401, {}, b'{"error":"You don\'t have permission to access this API"}', "commcare_permission_missing"),
        (403, {}, b"", "commcare_permission_missing"),
        (403, {}, b"<html>forbidden</html>", "commcare_permission_missing"),
        (404, {}, b'{"error":"The domain \\"x\\" was not found."}', "commcare_domain_unknown"),
        (404, {}, b"", "commcare_resource_unknown"),
        (404, {}, b'{"error_message":"Sorry, this request could not be processed."}', "commcare_server_error"),
        (400, {}, b'{"error":"\'x\' is not a valid parameter."}', "commcare_request_refused"),
        (405, {}, b'{"error":"Request method not allowed"}', "commcare_request_refused"),
        (429, {"Retry-After": "3600"}, b"", "commcare_throttled"),
        (500, {}, b"<html>oops</html>", "commcare_server_error"),
        (503, {}, b"Service Temporarily Unavailable", "commcare_server_error"),
        (302, {"Location": "https://www.hq.example.org/a/dom/"}, b"", "commcare_not_commcare"),
        (200, {}, b"<!DOCTYPE html><html>login</html>", "commcare_not_commcare"),
        (200, {}, b'{"objects": [', "commcare_response_malformed"),
        (200, {}, b"[" * 100_000, "commcare_response_malformed"),
        (200, {"Content-Encoding": "br"}, b"x", "commcare_response_malformed"),
    ],
)
def test_each_refusal_is_its_own_error(status: int, headers: dict[str, str], body: bytes, code: str) -> None:
    client = client_of(lambda _: httpx.Response(status, headers=headers, stream=httpx.ByteStream(body)))
    with client, pytest.raises(ApiError) as caught:
        client.get("case/v2/", resource="cases", page=7, decode=msgspec.json.decode)
    assert caught.value.code == code
    assert (caught.value.details["resource"], caught.value.details["page"]) == ("cases", 7)
    assert caught.value.next_step
    assert "s3cr3t" not in f"{caught.value!r} {caught.value} {caught.value.as_dict()}"


def test_no_answer_at_all_is_unreachable() -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with client_of(refuse) as client, pytest.raises(ApiError) as caught:
        client.get_json("x/", resource="x")
    assert caught.value.code == "commcare_unreachable"
    assert client.usage("x").requests == 3


def test_waits_as_told_and_gives_up_when_it_is_told_for_ever() -> None:
    waits: list[float] = []
    asked: list[httpx.Request] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(429, headers={"Retry-After": "7.5"})

    with client_of(refuse) as client:
        client._sleep = waits.append
        with pytest.raises(Throttled) as caught:
            client.get_json("x/", resource="x")
    assert caught.value.retry_after_s == 7.5
    assert 3 <= len(asked) <= 10
    assert sum(wait >= 7.5 for wait in waits) >= len(asked) - 1


@pytest.mark.parametrize("retry_after", ["3600", "3600.5", "9e99"])
def test_nobody_of_the_client_asks_while_the_server_wants_no_requests(retry_after: str) -> None:
    """Hours are not waited: the first 429 ends the request, and the others of the client are not even sent."""
    asked: list[httpx.Request] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(429, headers={"Retry-After": retry_after})

    with client_of(refuse) as client:
        for page in (1, 2):
            with pytest.raises(Throttled) as caught:
                client.get("x/", resource="x", page=page, decode=msgspec.json.decode)
            assert caught.value.retry_after_s is not None
            assert 3500 < caught.value.retry_after_s <= 7 * 86_400
            assert caught.value.details["page"] == page
    assert len(asked) == 1


@pytest.mark.parametrize(
    "link",
    ["https://evil.example/a/dom/api/x/?cursor=1", "//evil.example/?cursor=1", "https://hq.example.org:444/?cursor=1",
     "https://hq.example.org.evil.example/?cursor=1", "https://user@evil.example?cursor=1", "ftp://hq.example.org/?cursor=1",
     "javascript:alert(1)", "/a/dom/api/x/", "http://[bad/?cursor=1"],
)  # fmt: skip
def test_next_pages_elsewhere_are_refused(link: str) -> None:
    with client_of(lambda _: httpx.Response(500)) as client, pytest.raises(ResponseMalformed) as caught:
        client.next_params(link, endpoint="x/", resource="cases", page=3)
    assert caught.value.details == {"resource": "cases", "page": 3}


@pytest.mark.parametrize(
    "link",
    ["https://hq.example.org/a/dom/api/x/?cursor=a%2Bb&limit=", "http://hq.example.org/a/dom/api/x/?cursor=a%2Bb&limit=",
     "https://hq.example.org:443/a/dom/api/x/?cursor=a%2Bb&limit=", "/a/dom/api/x/?cursor=a%2Bb&limit=", "?cursor=a%2Bb&limit="],
)  # fmt: skip
def test_next_pages_of_our_server_give_their_query(link: str) -> None:
    with client_of(lambda _: httpx.Response(500)) as client:
        assert client.next_params(link, endpoint="x/", resource="x", page=1) == [("cursor", "a+b"), ("limit", "")]


@pytest.mark.parametrize("key", ["line\nbreak", "tab\t", "ünicode", "trailing ", "\x00"])
def test_keys_that_http_cannot_carry_are_refused_without_showing_them(key: str) -> None:
    client = client_of(lambda _: httpx.Response(200), ApiKeyCredential("u", key))
    with client, pytest.raises(CredentialsInvalid) as caught:
        client.get_json("x/", resource="x")
    assert key not in str(caught.value)


def test_nothing_shows_the_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with client_of(lambda _: httpx.Response(401)) as client:
        with pytest.raises(CredentialsInvalid):
            client.get_json("x/", resource="x")
        assert "s3cr3t" not in repr(client) + repr(vars(client)) + caplog.text


@pytest.mark.parametrize(
    ("dates", "least_s", "most_s"),
    [
        ([-300, -10], 300, 330),
        ([400], 0, 0),
        ([None], 0, 0),
        (["yesterday"], 0, 0),
        (["Sun, 01 Nov 2026 00:00:00"], 0, 0),
    ],
)
def test_a_clock_that_is_behind_is_noticed(dates: list[int | str | None], least_s: float, most_s: float) -> None:
    """`dates`: of the answers, in seconds from now or as they are."""
    answers = iter(dates)

    def handler(_: httpx.Request) -> httpx.Response:
        date = next(answers)
        if isinstance(date, int):
            date = format_datetime(datetime.now(UTC) + timedelta(seconds=date), usegmt=True)
        return httpx.Response(200, json={}, headers={"Date": date} if date else {})

    with client_of(handler) as client:
        for _ in dates:
            client.get_json("case/v2/", resource="cases")
        assert least_s <= client.server_behind_s <= most_s


def test_requests_name_the_product_and_carry_the_key() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={})

    with client_of(answer) as client:
        client.get_json("x/", resource="x", params=[("a.gt", "1+2")])
    (request,) = seen
    assert request.headers["Authorization"] == "ApiKey user@example.org:s3cr3t-key"
    assert request.headers["User-Agent"].startswith("data-explorer/")
    assert str(request.url) == "https://hq.example.org/a/dom/api/x/?a.gt=1%2B2"


@pytest.fixture(scope="module")
def demo() -> Iterator[RunningServer]:
    with serve_in_thread(cases=30) as server:
        yield server


@pytest.fixture
def grant(demo: RunningServer) -> OAuthCredential:
    client_id, secret = demo.control.oauth_client
    refresh_token = demo.control.issue_refresh_token()
    return OAuthCredential(client_id, secret, f"{demo.url}/oauth/token/", "", refresh_token, None)


def test_oauth_tokens_are_renewed_when_they_end_and_the_new_grant_is_kept(
    demo: RunningServer, grant: OAuthCredential
) -> None:
    kept: list[OAuthCredential] = [grant]

    def refresh(stale: str, renew: Callable[[Any], Any]) -> OAuthCredential:
        assert stale == kept[-1].access_token
        kept.append(renew(kept[-1]))
        return kept[-1]

    with CommCareClient(demo.url, MATERNAL, grant, settings=SETTINGS, refresh=refresh) as client:
        for _ in range(3):
            demo.control.expire_access_tokens()
            assert client.get_json("group/v1/", resource="groups")["objects"]
    tokens = [(credential.access_token, credential.refresh_token) for credential in kept]
    assert len({access for access, _ in tokens}) == len({refresh for _, refresh in tokens}) == len(tokens) >= 3
    assert kept[-1].expires_at is not None
    assert timedelta(0) < kept[-1].expires_at - datetime.now(UTC) <= timedelta(seconds=900)


def test_many_threads_renew_once(demo: RunningServer, grant: OAuthCredential) -> None:
    renewals: list[str] = []
    current = [grant]

    def refresh(stale: str, renew: Callable[[Any], Any]) -> OAuthCredential:
        renewals.append(stale)
        current[0] = renew(current[0])
        return current[0]

    with CommCareClient(demo.url, MATERNAL, grant, settings=SETTINGS, refresh=refresh) as client:
        client.get_json("group/v1/", resource="groups")
        demo.control.expire_access_tokens()
        threads = [
            threading.Thread(target=client.get_json, args=("group/v1/",), kwargs={"resource": "g"}) for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(renewals) == 2


def test_a_refused_renewal_fails_and_shows_nothing(demo: RunningServer, grant: OAuthCredential) -> None:
    client = CommCareClient(demo.url, MATERNAL, replace(grant, refresh_token="gone-t0ken"), settings=SETTINGS)
    with client, pytest.raises(CredentialsInvalid) as caught:
        client.get_json("group/v1/", resource="groups")
    assert "gone-t0ken" not in json.dumps(caught.value.as_dict())


def test_a_token_that_the_server_never_accepts_is_renewed_once_per_request() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        if request.method == "POST":
            return httpx.Response(200, json={"access_token": f"t{len(asked)}", "refresh_token": "r", "expires_in": 900})
        return httpx.Response(401)

    ends = datetime.now(UTC) + timedelta(hours=1)
    credential = OAuthCredential("c", "s", "https://hq.example.org/oauth/token/", "t", "r", ends)
    with client_of(answer, credential) as client, pytest.raises(CredentialsInvalid):
        client.get_json("x/", resource="x")
    assert asked == ["GET", "POST", "GET"]


def test_the_token_endpoint_is_on_the_tenants_server() -> None:
    with pytest.raises(CredentialsInvalid, match="own server"):
        client_of(lambda _: httpx.Response(200), OAuthCredential("c", "s", "https://evil.example/token", "", "r"))
