"""Refusals that mean the same for every provider: the time to wait, and the meaning of a bare status."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.catalog.secrets.credentials import ApiKeyCredential
from explorer.core.settings import Settings
from explorer.http.address import Server
from explorer.http.api import Refusal, Service
from explorer.http.client import ApiClient
from explorer.http.errors import (
    ApiError,
    CredentialsInvalid,
    PermissionMissing,
    RequestRefused,
    ResourceUnknown,
    ServerError,
    Throttled,
    Unreachable,
    WrongServer,
)
from explorer.http.refusals import retry_after_s

SETTINGS = Settings(_env_file=None, requests_per_second=1000, http_max_attempts=1, http_max_retry_after_s=20)


SERVICE = Service(
    name="other", product="Other", unit="chatbot", unit_field="chatbot", credential="the key", credential_parts="the key",
    example_url="https://other.example", token_path="/token", refresh_lifetime="a day",
)  # fmt: skip


@dataclass(frozen=True)
class OtherApi:
    """A provider that leaves all reading of refusals to the client."""

    tenant_id: str = "bot"
    service: Service = SERVICE

    def url(self, server: Server, endpoint: str, *, of_tenant: bool) -> str:
        return f"{server.base}/{'t/' if of_tenant else ''}{endpoint}"

    def headers(self, credential: Any) -> Mapping[str, str]:
        return {"X-Token": credential.api_key}

    def read(self, refusal: Refusal) -> ApiError | None:
        return None

    def is_no_such_record(self, refusal: Refusal) -> bool:
        return refusal.status == 404 and refusal.reason == "gone"


def client_of(status: int, body: str = "", seen: list[httpx.Request] | None = None) -> ApiClient:
    def answer(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        return httpx.Response(status, text=body, headers={"Retry-After": "3600"})

    return ApiClient(
        OtherApi(), "other.example", ApiKeyCredential("u", "k"), settings=SETTINGS,
        transport=httpx.MockTransport(answer), sleep=lambda _: None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, CredentialsInvalid, "Check the key"),
        (402, PermissionMissing, "chatbot's plan"),
        (403, PermissionMissing, "chatbot's plan"),
        (404, ResourceUnknown, "address and chatbot"),
        (407, WrongServer, "sign-in of its own"),
        (418, RequestRefused, "HTTP 418"),
        (429, Throttled, "chatbot 'bot' on other.example (user u)"),
        (503, ServerError, "is back at"),
        (301, WrongServer, "redirects"),
    ],
)
def test_a_status_has_a_meaning_and_a_code_of_the_provider(status: int, kind: type[ApiError], words: str) -> None:
    with client_of(status) as client, pytest.raises(kind) as caught:
        client.get_json("sessions/", resource="sessions")
    error = caught.value
    assert type(error) is kind
    assert words in str(error)
    assert error.code == kind.code_for("other")
    others = {
        CredentialsInvalid,
        PermissionMissing,
        ResourceUnknown,
        WrongServer,
        RequestRefused,
        Throttled,
        ServerError,
    }
    assert [other for other in others if other.is_code(error.code)] == [kind]
    assert "CommCare" not in str(error.as_dict())


def test_codes_of_other_things_are_not_ours() -> None:
    assert not Throttled.is_code("throttled")
    assert not Throttled.is_code(None)
    assert not WrongServer.is_code("other_not_commcare")
    assert not Unreachable.is_code("database_reachable")


def test_a_request_has_the_providers_address_and_credential() -> None:
    seen: list[httpx.Request] = []
    with client_of(200, "{}", seen) as client:
        client.get_json("me/", resource="me", of_tenant=False)
        client.get_json("sessions/", resource="sessions")
    assert [str(request.url) for request in seen] == ["https://other.example/me/", "https://other.example/t/sessions/"]
    assert {request.headers["X-Token"] for request in seen} == {"k"}


def test_only_the_providers_own_word_says_that_a_record_is_gone() -> None:
    with client_of(404, "gone") as client:
        assert client.find("sessions/1", resource="sessions", decode=bytes) is None
    with client_of(404, "<html>gone</html>") as client, pytest.raises(ResourceUnknown):
        client.find("sessions/1", resource="sessions", decode=bytes)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5.0), ("0.25", 0.25), (None, None), ("", None), ("soon", None), ("nan", None), ("-3", 0.0),
     ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("Fri, 31 Dec 9999 23:59:59 GMT", 604_800.0), ("7200", 7200.0), ("inf", 604_800.0),
     ("1e400", 604_800.0), ("Wed, 21 Oct 99999 07:28:00 GMT", None), ("Mon, 01 Jan 0001 00:00:00 +2359", 0.0)],
)  # fmt: skip
def test_retry_after_forms(text: str | None, seconds: float | None) -> None:
    assert retry_after_s(text) == seconds


@given(st.text(max_size=40) | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,5} \d\d:\d\d:\d\d [+-]\d{1,9}"))
def test_no_header_breaks_the_reading_of_it(text: str) -> None:
    seconds = retry_after_s(text)
    assert seconds is None or 0 <= seconds <= 604_800
