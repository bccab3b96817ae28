"""Records of a dlt resource, written by hand: exact, page by page, and its errors as what they were."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import dlt
import httpx
import pytest

from explorer.catalog.secrets.credentials import ApiKeyCredential
from explorer.core.settings import Settings
from explorer.extract.extract import Extract
from explorer.http.client import ApiClient
from explorer.http.errors import PermissionMissing, ResponseMalformed
from explorer.providers.commcare.client import CommCareClient
from explorer.providers.paging import Resource, Styles
from explorer.registry import Cursor, Source

SOURCE = Source(
    name="things", table="raw_things", description="", endpoint="things", resource="things", page_size=2,
    primary_key="id", keys={"id": "text", "at": "timestamp"}, cursor=Cursor(field="at"),
)  # fmt: skip
SINCE = datetime(2026, 1, 1, tzinfo=UTC)


def extract_of(resource: Any, status: int = 200) -> Extract:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, json={"asked": str(request.url)})

    client = CommCareClient(
        "http://127.0.0.1", "d", ApiKeyCredential("u", "k"), settings=Settings(_env_file=None),
        sleep=lambda _: None, transport=httpx.MockTransport(answer),
    )  # fmt: skip
    return Extract(client, SOURCE, Styles(paging={}, resources={"things": Resource(resource)}), since=SINCE)


@dlt.resource(name="things")
def things(client: ApiClient, since: datetime | None) -> Iterator[Any]:
    """Dicts, or lists of them, as dlt's resources may yield."""
    assert since == SINCE
    answer = client.get_json("things", resource="things")
    yield {"id": "a", "n": Decimal("12345678901234567890.123456789"), "text": "nul \x00", **answer}
    yield [{"id": "b", "at": SINCE}, {"name": "has no id"}, {"id": "c"}]


def test_records_come_in_pages_with_every_value() -> None:
    extract = extract_of(things)
    batches = list(extract.batches())
    assert [len(batch.rows) + len(batch.rejects) for batch in batches] == [2, 2]
    rows = [row for batch in batches for row in batch.rows]
    assert [(row.id, row.cursor) for row in rows] == [("a", None), ("b", SINCE), ("c", None)]
    first = json.loads(rows[0].json, parse_float=Decimal)
    assert first["n"] == Decimal("12345678901234567890.123456789")
    assert first["text"] == "nul \ufffd"
    assert first["asked"].endswith("/things")
    assert (extract.losses.rejected.total(), extract.losses.repaired, extract.record_count) == (1, 1, 3)


def test_an_error_of_the_client_is_told_as_it_was() -> None:
    with pytest.raises(PermissionMissing):
        list(extract_of(things, status=403).batches())


def test_an_error_of_the_function_names_the_resource() -> None:
    @dlt.resource(name="things")
    def broken(client: ApiClient, since: datetime | None) -> Iterator[Any]:
        yield {"id": "a"}
        raise KeyError("total")

    with pytest.raises(ResponseMalformed, match=r"things: its resource ended with .*total"):
        list(extract_of(broken).batches())


def test_a_source_is_paged_or_has_a_resource() -> None:
    both = {**SOURCE.model_dump(), "paging": "single", "collection": "things"}
    for wrong in (both, {**SOURCE.model_dump(), "resource": None}, {**SOURCE.model_dump(), "proof": "record"}):
        with pytest.raises(ValueError, match="resource"):
            Source.model_validate(wrong)
