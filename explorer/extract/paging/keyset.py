"""How is a resource read that is sorted by id?"""

from collections.abc import Callable
from typing import Any

import msgspec

from explorer.extract.distinct import DistinctIds
from explorer.extract.fetcher import Fetcher
from explorer.extract.page_buffer import PageBuffer
from explorer.extract.pages import Page, PageSeries, Params, with_own
from explorer.http.errors import ResponseMalformed
from explorer.providers.paging import Keyset

_Id = int | str


def by_id(pages: PageBuffer, fetcher: Fetcher, paging: Keyset, base: Params) -> None:
    """All pages, each requested after the last id, until one is empty or says that it is the last."""
    series, ids = PageSeries(), _Ids(fetcher, paging)
    tells_end = bool(fetcher.envelope.next or fetcher.envelope.limit)
    own: dict[str, str] = {}

    def params(size: int) -> Params:
        return with_own(base, {paging.size: str(size), **own})

    def fetch() -> Page:
        page = fetcher.fetch_sized(params).of(series)
        ids.check(page)
        return page

    while True:
        page = pages.fetch(fetch)
        if not page.records or (tells_end and page.is_last):
            return
        own = {paging.after: str(ids.last)}


class _Ids:
    """The ids so far. Each must be new, and a number larger than the one before. Otherwise the server ignores the parameter or
    sorts by another field, and paging would loop or skip records."""

    def __init__(self, fetcher: Fetcher, paging: Keyset) -> None:
        self._fetcher = fetcher
        self._read = _id_reader(paging.field or fetcher.key_field)
        self._known = DistinctIds()
        self.last: _Id | None = None

    def check(self, page: Page) -> None:
        """Check and remember the page's ids.

        Raises:
            ResponseMalformed: an id is missing, repeated or out of order.
        """
        found = [self._read(record) for record in page.records]
        ids = [identity for identity in found if identity is not None]
        if len(ids) < len(found):
            raise self._endless("a record carries no id to go on from", page)
        for identity in ids:
            if isinstance(identity, int) and isinstance(self.last, int) and identity <= self.last:
                raise self._endless("the server's records are not in the order of their ids", page)
            self.last = identity
        if self._known.add([str(identity) for identity in ids]):
            raise self._endless("the server sends records that were read before", page)

    def _endless(self, why: str, page: Page) -> ResponseMalformed:
        return self._fetcher.endless(why, page.number)


def _id_reader(field: str) -> Callable[[msgspec.Raw], _Id | None]:
    struct = msgspec.defstruct("Id", [("value", Any, None)], rename={"value": field})
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(struct).decode

    def read(record: msgspec.Raw) -> _Id | None:
        try:
            value = decode(record).value
        except (msgspec.DecodeError, RecursionError):
            return None
        return value if isinstance(value, int | str) and not isinstance(value, bool) and value != "" else None

    return read
