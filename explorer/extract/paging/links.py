"""How is a resource read whose answers hold a link or a token for the next page?"""

from collections.abc import Callable
from typing import Any

import msgspec

from explorer.extract.fetcher import Fetcher
from explorer.extract.page_buffer import PageBuffer
from explorer.extract.pages import Page, PageSeries, Params, with_own
from explorer.providers.paging import NextLink, Token, WholeDocuments


def by_link(pages: PageBuffer, fetcher: Fetcher, paging: NextLink, base: Params) -> None:
    """All pages, until one is empty or has no next link."""
    series, followed = PageSeries(), set[int]()
    link = base

    def params(size: int) -> Params:
        return with_own(link, {paging.size: str(size)})

    def fetch_exactly(size: int) -> Page:
        return pages.fetch(lambda: fetcher.fetch(params(size), size).of(series))

    documents = DocumentEnds(fetcher, paging.documents) if paging.documents else None
    while True:
        page = pages.fetch(lambda: fetcher.fetch_sized(params).of(series))
        if documents:
            page = documents.whole(page, fetch_exactly)
        if not page.records or not page.next:
            return
        link = fetcher.next_params(page)
        if link == base or hash(link) in followed:
            raise fetcher.endless("the server names a page that was read before", page.number)
        followed.add(hash(link))


def by_token(pages: PageBuffer, fetcher: Fetcher, paging: Token, base: Params) -> None:
    """All pages, until one has no token."""
    series, used = PageSeries(), set[str]()
    own: dict[str, str] = {}

    def params(size: int) -> Params:
        return with_own(base, {paging.size: str(size), **own})

    while True:
        page = pages.fetch(lambda: fetcher.fetch_sized(params).of(series))
        if not page.next:
            return
        if page.next in used:
            raise fetcher.endless("the server names a page that was read before", page.number)
        used.add(page.next)
        own = {paging.token: page.next}


class DocumentEnds:
    """Makes pages end with a whole document: the server's link skips the rest of a document that a page has cut."""

    def __init__(self, fetcher: Fetcher, documents: WholeDocuments) -> None:
        self._fetcher = fetcher
        struct = msgspec.defstruct(
            "Row",
            [("document", Any, None), ("part", Any, None)],
            rename={"document": documents.document, "part": documents.part},
        )
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(struct).decode

    def whole(self, page: Page, fetch_exactly: Callable[[int], Page]) -> Page:
        """The page, or one from the same place that ends with a whole document: requested without the last document, or larger
        when the page holds only one."""
        while (kept := self._rows_of_whole_documents(page)) < len(page.records):
            again = fetch_exactly(kept or 2 * len(page.records))
            if not kept and len(again.records) <= len(page.records):
                raise self._fetcher.endless("one document has more rows than a page holds", page.number)
            if kept and list(map(bytes, again.records)) == list(map(bytes, page.records[:kept])):
                return again
            page = again
        return page

    def _rows_of_whole_documents(self, page: Page) -> int:
        """How many rows come before the document that a full page may have cut; all rows where each document has one row."""
        rows = page.records
        if not rows or page.is_short:
            return len(rows)
        try:
            last = self._decode(rows[-1])
            place = len(rows) - 1
            while place and self._decode(rows[place - 1]).document == last.document:
                place -= 1
        except msgspec.DecodeError:
            return len(rows)
        is_alone = place == len(rows) - 1 and last.part is None
        return len(rows) if is_alone else place
