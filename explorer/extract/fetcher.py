"""How is one page of a source requested, counted and timed?"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from explorer.extract.envelopes import EnvelopeReader
from explorer.extract.pages import SMALLEST_PAGE, Page, PageSize, Params
from explorer.extract.records.long_numbers import may_hold_long_number
from explorer.extract.records.repair import repair_text
from explorer.http.client import ApiClient
from explorer.http.errors import ApiError, ResponseMalformed, ServerError, Unreachable
from explorer.providers.paging import Envelope
from explorer.registry import Source

# A runaway guard: 100,000 pages of 1,000 are 100 million records.
_MAX_PAGES = 100_000
# How often in a row a failing page is requested with a smaller size.
_SMALLER_TRIES = 2


@dataclass
class Fetcher:
    """Fetches pages of one source, from any number of threads. `pages`: number of requested pages; `latency_s`: average time
    that the server took for one of the last pages."""

    client: ApiClient
    source: Source
    envelope: Envelope
    pages: int = 0
    latency_s: float = 0.0
    _answered: int = 0
    _smaller: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.size = PageSize(self.source.page_size, self.source.largest_page)
        self._read = EnvelopeReader(self.envelope, self.source.collection).read

    def fetch(self, params: Params, asked: int = 0) -> Page:
        """The answer to `params`, which request `asked` records.

        Raises:
            ApiError: the server refuses or fails, or its answer has another shape.
        """
        number = self._next_number()

        def decode(body: bytes) -> Page:
            text, repaired = repair_text(body)
            page = self._read(text)
            page.number, page.asked, page.size, page.repaired = number, asked, len(text), repaired
            page.long_numbers = may_hold_long_number(text)
            return page

        page = self.client.get(self.source.endpoint, params, resource=self.source.name, page=number, decode=decode)
        duration_s = self.client.last_request_s
        if asked:
            self.size.note(asked, len(page.records), page.size, duration_s)
        with self._lock:
            weight = 0.3 if self._answered else 1.0
            self.latency_s += weight * (duration_s - self.latency_s)
            self._answered += 1
            self._smaller = 0
        return page

    def page_of(self, records: list[bytes]) -> Page:
        """A page of records that did not come in one answer."""
        repaired = [repair_text(record) for record in records]
        return Page(
            [msgspec.Raw(text) for text, _ in repaired],
            next=None,
            total=None,
            number=self._next_number(),
            asked=len(records),
            size=sum(len(text) for text, _ in repaired),
            repaired=sum(count for _, count in repaired),
            long_numbers=any(may_hold_long_number(text) for text, _ in repaired),
        )

    def fetch_sized(self, params_of: Callable[[int], Params]) -> Page:
        """A page of `params_of(size)`, with a smaller size when the server fails.

        Raises what `fetch` raises.
        """
        while True:
            asked = self.size.current
            try:
                return self.fetch(params_of(asked), asked)
            except (ServerError, Unreachable) as error:
                if not self.may_go_smaller(asked, error):
                    raise

    def may_go_smaller(self, asked: int, error: ApiError) -> bool:
        """Whether to retry a page of `asked` records with a smaller size after all other retries failed."""
        if error.is_final:
            return False
        with self._lock:
            if asked > self.size.current:
                return True
            is_down = isinstance(error, Unreachable) and not self._answered
            if is_down or asked <= SMALLEST_PAGE or self._smaller >= _SMALLER_TRIES:
                return False
            self._smaller += 1
        self.size.shrink(asked)
        return True

    @property
    def key_field(self) -> str:
        """The record field of the source's primary key."""
        return self.source.field_of(self.source.primary_key)

    def next_params(self, page: Page) -> Params:
        """Parameters of the page's `next` link. Raises ResponseMalformed when it leads to another server."""
        link, name = page.next or "", self.source.name
        return tuple(self.client.next_params(link, endpoint=self.source.endpoint, resource=name, page=page.number))

    def endless(self, why: str, page: int | None = None) -> ResponseMalformed:
        """The error of paging without progress."""
        page = page or self.pages
        return ResponseMalformed(
            f"{self.source.name}: paging does not end at page {page}: {why}.",
            provider=self.client.api.service.name,
            next_step="What was loaded before is untouched. Report it to the server's operator.",
            details={"resource": self.source.name, "page": page},
        )

    def _next_number(self) -> int:
        with self._lock:
            if self.pages >= _MAX_PAGES:
                raise self.endless(f"there are more than {_MAX_PAGES:,} pages")
            self.pages += 1
            return self.pages
