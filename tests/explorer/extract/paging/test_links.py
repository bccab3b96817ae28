"""Extracts by link, and extracts per record of another source."""

import json
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from explorer.catalog.secrets.credentials import ApiKeyCredential
from explorer.core.settings import Settings
from explorer.extract.extract import Extract
from explorer.extract.records.reader import Row
from explorer.http.errors import ApiError
from explorer.providers.commcare.client import CommCareClient
from explorer.providers.commcare.paging import STYLES
from explorer.registry import ForEach, Source

SETTINGS = Settings(_env_file=None, requests_per_second=1000)
ROWS = Source(
    name="rows", table="raw_rows", description="", endpoint="ucr/v1/", paging="link", collection="objects", page_size=3,
    primary_key="row_id", key_from="content", keys={"row_id": "text", "data_source_id": "text", "doc_id": "text"},
    for_each=ForEach(source="sources", param="data_source_id", key="id", column="data_source_id"),
)  # fmt: skip


class UcrServer:
    """UCR data: `next` is named whenever the page holds anything."""

    def __init__(self, rows: dict[str, list[dict[str, Any]]]) -> None:
        self.rows = rows
        self.requests = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        query = {key: values[0] for key, values in parse_qs(request.url.query.decode()).items()}
        at, limit = int(query.get("cursor", 0)), int(query["limit"])
        page = self.rows[query["data_source_id"]][at : at + limit]
        link = f"http://127.0.0.1/a/d/api/ucr/v1/?data_source_id={query['data_source_id']}&limit=99&cursor={at + limit}"
        return httpx.Response(200, json={"objects": page, "meta": {"next": link if page else None, "limit": limit}})


def extract_of(server: Any, values: list[str], source: Source = ROWS) -> tuple[Extract, list[Row]]:
    client = CommCareClient(
        "http://127.0.0.1", "d", ApiKeyCredential("u", "k"), settings=SETTINGS, transport=httpx.MockTransport(server),
        sleep=lambda _: None,
    )  # fmt: skip
    with client:
        extract = Extract(client, source, STYLES, values=values)
        return extract, [row for batch in extract.batches() for row in batch.rows]


def test_each_record_of_the_other_source_is_read_to_its_empty_page() -> None:
    """Rows of one document differ, rows of two data sources may be equal: all of them are kept apart.

    A document that a page cuts is read again, so its rows come more than once; they are counted once.
    """
    server = UcrServer({"a": [{"doc_id": "d1", "n": n} for n in range(7)], "b": [{"doc_id": "d1", "n": 0}], "c": []})
    extract, rows = extract_of(server, ["a", "b", "c"])
    assert (extract.record_count, len({row.id for row in rows}), server.requests) == (8, 8, 4 + 2 + 1)
    contents = {(row.keys[1], row.keys[2], json.loads(row.json)["n"]) for row in rows}
    assert contents == {("a", "d1", n) for n in range(7)} | {("b", "d1", 0)}
    assert {row.id for row in extract_of(server, ["a", "b"])[1]} == {row.id for row in rows}


def test_no_record_of_the_other_source_is_no_request() -> None:
    extract, rows = extract_of(UcrServer({}), [])
    assert (rows, extract.pages, extract.api_total) == ([], 0, 0)


@pytest.mark.parametrize("link", ["?cursor=1&data_source_id=a", "https://evil.example/?cursor=1"])
def test_a_link_that_leads_in_circles_or_elsewhere_is_an_error(link: str) -> None:
    pages = iter(range(10**6))

    def server(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"objects": [{"doc_id": str(next(pages))}], "meta": {"next": link}})

    with pytest.raises(ApiError) as caught:
        extract_of(server, ["a"])
    assert (caught.value.code, caught.value.details["resource"]) == ("commcare_response_malformed", "rows")
    assert next(pages) < 10
