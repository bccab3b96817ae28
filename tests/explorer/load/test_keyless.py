"""Records without a key: equal records stay as many rows as at the server, load after load."""

from collections import Counter
from typing import Any

import httpx
import pytest

from explorer.catalog.secrets.credentials import ApiKeyCredential
from explorer.providers.commcare.client import CommCareClient
from explorer.providers.paging import Envelope, Single, Styles, Token
from explorer.registry import Source
from tests.explorer.load.conftest import Loader


def source(paging: str) -> Source:
    return Source(
        name="payments", table="raw_payments", description="", endpoint="payments/", paging=paging, collection="results",
        primary_key="row_id", key_from="occurrence", keys={"row_id": "text", "worker": "text"}, page_size=2,
    )  # fmt: skip


class Payments:
    """A server of payments that may be equal. `pages`: by token, of as many as are asked for, or all at once."""

    def __init__(self, pages: bool) -> None:
        self.rows: list[dict[str, Any]] = []
        self._pages = pages

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if not self._pages:
            return httpx.Response(200, json={"results": self.rows})
        at, size = int(request.url.params.get("token", 0)), int(request.url.params["limit"])
        following = str(at + size) if at + size < len(self.rows) else None
        return httpx.Response(200, json={"results": self.rows[at : at + size], "next": following})


@pytest.mark.parametrize("paging", ["single", "token"])
def test_equal_records_stay_as_many_rows_as_there_are(loader: Loader, paging: str) -> None:
    server = Payments(pages=paging == "token")
    styles = Styles(paging={"single": Single(), "token": Token(token="token")}, envelope=Envelope(next=("next",)))
    loader.pipeline = loader.pipeline.model_copy(update={"sources": (source(paging),)})

    def load() -> Any:
        client = CommCareClient(
            "http://127.0.0.1", "d", ApiKeyCredential("u", "k"), settings=loader.settings, sleep=lambda _: None,
            transport=httpx.MockTransport(server),
        )  # fmt: skip
        return loader("payments", client=client, styles=styles).resources["payments"]

    def there() -> Counter[tuple[str, int]]:
        rows = loader.rows("SELECT worker, (record->>'amount')::int FROM raw.raw_payments WHERE _deleted_at IS NULL")
        return Counter(rows)

    def expected() -> Counter[tuple[str, int]]:
        return Counter((row["worker"], row["amount"]) for row in server.rows)

    a, b, c = ({"worker": worker, "amount": amount} for worker, amount in (("w1", 5), ("w1", 7), ("w2", 5)))
    server.rows = [a, b, a, a, c]
    assert load().rows_new == 5
    assert there() == expected()
    # Another order is nothing new.
    server.rows = [c, a, a, b, a]
    report = load()
    assert (report.rows_new, report.rows_changed, report.rows_deleted) == (0, 0, 0)
    # One more, and one less of another.
    server.rows = [a, c, a, a, c, a]
    report = load()
    assert (report.rows_new, report.rows_deleted) == (2, 1)
    assert there() == expected()
    server.rows = [a, b, c, c]
    assert load().rows_deleted == 3
    assert there() == expected()
