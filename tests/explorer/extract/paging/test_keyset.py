"""Extracts by id and by token: every record comes once, and a server that ignores the parameter or repeats pages is an error."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.catalog.secrets.credentials import ApiKeyCredential
from explorer.core.settings import Settings
from explorer.extract.extract import Extract
from explorer.http.errors import ResponseMalformed
from explorer.providers.commcare.client import CommCareClient
from explorer.providers.paging import Envelope, Keyset, Paging, Styles, Token
from explorer.registry import Source

SETTINGS = Settings(_env_file=None, requests_per_second=1000, http_max_attempts=2)
BARE = Envelope()
KEYSET = Keyset(after="last_id", size="page_size")


def source(page_size: int) -> Source:
    return Source(
        name="visits", table="raw_visits", description="", endpoint="visits/", paging="own", collection="results",
        primary_key="visit_id", keys={"visit_id": "text"}, rename={"id": "visit_id"}, page_size=page_size,
    )  # fmt: skip


def extract_all(
    answer: Callable[[dict[str, str]], Any], paging: Paging, page_size: int = 3, envelope: Envelope = BARE
) -> tuple[Extract, list[Any]]:
    """The extract, and the ids that it brought."""

    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=answer({k: v[0] for k, v in parse_qs(request.url.query.decode()).items()}))

    client = CommCareClient(
        "http://127.0.0.1", "d", ApiKeyCredential("u", "k"), settings=SETTINGS, transport=httpx.MockTransport(handler),
        sleep=lambda _: None,
    )  # fmt: skip
    with client:
        extract = Extract(client, source(page_size), Styles(paging={"own": paging}, envelope=envelope))
        return extract, [json.loads(row.json)["id"] for batch in extract.batches() for row in batch.rows]


def by_id(ids: list[Any], clamp: int = 1000) -> Callable[[dict[str, str]], Any]:
    def answer(query: dict[str, str]) -> Any:
        kind = type(ids[0]) if ids else int
        rest = [one for one in ids if "last_id" not in query or one > kind(query["last_id"])]
        return {"results": [{"id": one} for one in rest[: min(clamp, int(query["page_size"]))]]}

    return answer


@settings(max_examples=60, deadline=None)
@given(
    ids=st.lists(st.integers(-5, 40), unique=True) | st.lists(st.text("abc", min_size=1, max_size=3), unique=True),
    page_size=st.integers(1, 7),
    clamp=st.integers(1, 7),
)
def test_each_record_comes_once_whatever_the_page_size_and_the_servers_own(
    ids: list[Any], page_size: int, clamp: int
) -> None:
    extract, found = extract_all(by_id(sorted(ids), clamp), KEYSET, page_size)
    assert found == sorted(ids)
    assert extract.record_count == len(ids)


def test_a_server_that_tells_its_end_is_not_asked_for_an_empty_page() -> None:
    ids = list(range(7))

    def answer(query: dict[str, str]) -> Any:
        page = by_id(ids)(query)["results"]
        return {"results": page, "next": "?more" if page and page[-1]["id"] < 6 else None}

    extract, found = extract_all(answer, KEYSET, 3, Envelope(next=("next",)))
    assert (found, extract.pages) == (ids, 3)
    assert extract_all(by_id(ids), KEYSET, 3)[0].pages == 4


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [
        # The parameter is ignored.
        ([[1, 2, 3]], "order of their ids"),
        ([["a", "b", "c"]], "read before"),
        # From the other end, or in no order.
        ([[9, 8, 7]], "order of their ids"),
        ([[1, 2, 3], [5, 4]], "order of their ids"),
        # Repeats itself.
        ([["a", "b", "c"], ["c", "d", "e"]], "read before"),
        ([["a", "a"]], "read before"),
        # Nothing to go on from.
        ([[None]], "no id"),
        ([[True]], "no id"),
        ([[{"id": 1}]], "no id"),
        ([[""]], "no id"),
    ],
)
def test_servers_that_would_be_read_in_circles_are_errors(answers: list[list[Any]], complaint: str) -> None:
    requests = 0

    def answer(_: dict[str, str]) -> Any:
        nonlocal requests
        requests += 1
        return {"results": [{"id": one} for one in answers[min(requests, len(answers)) - 1]]}

    with pytest.raises(ResponseMalformed, match=complaint) as caught:
        extract_all(answer, KEYSET)
    assert caught.value.details["resource"] == "visits"
    assert requests <= 3


@settings(max_examples=40, deadline=None)
@given(count=st.integers(0, 20), page_size=st.integers(1, 7))
def test_tokens_lead_through_everything(count: int, page_size: int) -> None:
    def answer(query: dict[str, str]) -> Any:
        at = int(query.get("cursor", "t0")[1:])
        end = at + int(query["limit"])
        return {
            "results": [{"id": n} for n in range(at, min(end, count))],
            "page": {"next": f"t{end}" if end < count else None},
        }

    found = extract_all(answer, Token(token="cursor"), page_size, Envelope(next=("page", "next")))[1]
    assert found == list(range(count))


def test_a_token_that_comes_twice_is_an_error() -> None:
    numbers = iter(range(1000))

    def answer(_: dict[str, str]) -> Any:
        return {"results": [{"id": next(numbers)}], "page": {"next": "same"}}

    with pytest.raises(ResponseMalformed, match="read before"):
        extract_all(answer, Token(token="cursor"), 3, Envelope(next=("page", "next")))
    assert next(numbers) < 10


def test_new_tokens_that_bring_nothing_new_are_an_error() -> None:
    numbers = iter(range(1000))

    def answer(_: dict[str, str]) -> Any:
        return {"results": [{"id": 1}], "page": {"next": f"t{next(numbers)}"}}

    with pytest.raises(ResponseMalformed, match="read before"):
        extract_all(answer, Token(token="cursor"), 3, Envelope(next=("page", "next")))
    assert next(numbers) < 20
