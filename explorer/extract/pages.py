"""How is one page of a resource asked for, how large may it be, and what is in it before its records are read?"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from explorer.extract.records import may_hold_long_number, repair_text
from explorer.http.client import ApiClient
from explorer.http.errors import ApiError, ResponseMalformed, ServerError, Unreachable
from explorer.registry import Source

Params = tuple[tuple[str, str], ...]

# A page is held in memory, several at a time; beyond some MB larger ones are no faster either.
PAGE_MAX_BYTES = 8 * 1024 * 1024
# Servers and the proxies before them cut requests off at 30 to 60 s; work that takes that long also slows the project's users.
SLOW_PAGE_S = 10.0
_QUICK_PAGE_S = 5.0
_SMALLEST_PAGE = 20
_SMALLER_TRIES = 2
_SHRINK_AFTER_FAILURE = 4
_QUICK_PAGES_TO_RECOVER = 20
# Paging that has not ended by then is not going to: 100,000 pages of 1,000 are 100 million records.
_MAX_PAGES = 100_000


@dataclass(eq=False)
class Track:
    """Pages that follow one another. `stale`: how many of the last ones brought nothing new; `is_short`: whether the last
    one held fewer records than were asked for, as only the end does."""

    stale: int = 0
    is_short: bool = False


class Page(msgspec.Struct):
    """One answer. `records` undecoded; `next`: link to the following page; `total`: the server's count; `limit`: its own idea
    of the page size. `number` of the request, from 1; `asked`: records asked for; `size`: bytes of the answer's text;
    `repaired`: characters replaced in it; `long_numbers`: whether numbers beyond Postgres' range may be inside. `track`: the
    series of pages that it belongs to; `moved`: whether it got further in time than the page before; `is_tie`: all its records
    have one instant."""

    records: list[msgspec.Raw]
    next: str | None
    total: int | None
    limit: int | None = None
    number: int = 0
    asked: int = 0
    size: int = 0
    repaired: int = 0
    long_numbers: bool = False
    track: Track = msgspec.field(default_factory=Track)
    moved: bool = False
    is_tie: bool = False

    @property
    def is_short(self) -> bool:
        """Whether it holds fewer records than were asked for."""
        return len(self.records) < min(self.limit or self.asked, self.asked)

    @property
    def is_last(self) -> bool:
        """A short page without a next one. A full page may have followers whatever the server's count makes it say."""
        return not self.next and self.is_short


class PageSize:
    """How many records to ask for next, learnt from the pages so far. For all threads of a walk.

    Up to `largest` while pages are quick and small, since requests are what the server counts; down when they are not.
    """

    def __init__(self, first: int, largest: int) -> None:
        self._lock = threading.Lock()
        self._declared = self._largest = largest
        self._quick_pages = 0
        self.current = first

    def note(self, asked: int, records: int, size: int, duration_s: float) -> None:
        """Learn from a page of `records` records and `size` bytes that took the server `duration_s` seconds."""
        if not records:
            return
        fits = max(1, PAGE_MAX_BYTES * records // max(1, size))
        with self._lock:
            if duration_s > SLOW_PAGE_S:
                self._bound(asked // 2)
            self.current = max(min(self.current, fits), min(self.current, _SMALLEST_PAGE))
            if records < asked or asked < self.current or duration_s > _QUICK_PAGE_S:
                return
            self._recover()
            larger = min(self._largest, fits, int(asked * _QUICK_PAGE_S / max(duration_s, 0.001)))
            # A new size means a new place to start from: only for a gain.
            if larger >= self.current * 3 // 2:
                self.current = larger

    def shrink(self, failed: int) -> None:
        """A page of `failed` records could not be had."""
        with self._lock:
            self._bound(failed // _SHRINK_AFTER_FAILURE)

    def _bound(self, largest: int) -> None:
        self._largest = max(largest, min(_SMALLEST_PAGE, self._declared))
        self._quick_pages = 0
        self.current = min(self.current, self._largest)

    def _recover(self) -> None:
        self._quick_pages += 1
        if self._quick_pages >= _QUICK_PAGES_TO_RECOVER:
            self._quick_pages = 0
            self._largest = min(self._declared, self._largest * 2)


@dataclass
class Fetcher:
    """Fetches pages of one source, for any number of threads. `pages`: how many were asked for; `latency_s`: what the server
    takes for one, on average of the last ones."""

    client: ApiClient
    source: Source
    pages: int = 0
    latency_s: float = 0.0
    _answered: int = 0
    _smaller: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.size = PageSize(self.source.page_size, self.source.largest_page)

    def fetch(self, params: Params, asked: int = 0) -> Page:
        """The answer to `params`, which ask for `asked` records.

        Raises:
            ApiError: the server refuses or fails, or its answer has another shape.
        """
        number = self._next_number()

        def decode(body: bytes) -> Page:
            text, repaired = repair_text(body)
            page = _decode_page(text, self.source.collection)
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

    def fetch_sized(self, params_of: Callable[[int], Params]) -> Page:
        """The page that `params_of(records to ask for)` asks for; a smaller one when the server fails to give it.

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
        """Whether a page of `asked` records that failed for good should be tried once more as a smaller one."""
        if error.is_final:
            return False
        with self._lock:
            if asked > self.size.current:
                return True
            is_down = isinstance(error, Unreachable) and not self._answered
            if is_down or asked <= _SMALLEST_PAGE or self._smaller >= _SMALLER_TRIES:
                return False
            self._smaller += 1
        self.size.shrink(asked)
        return True

    def next_params(self, page: Page) -> Params:
        """What the page's `next` asks for. Raises ResponseMalformed when it leads elsewhere."""
        link, name = page.next or "", self.source.name
        return tuple(self.client.next_params(link, endpoint=self.source.endpoint, resource=name, page=page.number))

    def endless(self, why: str, page: int | None = None) -> ResponseMalformed:
        """The error of a walk that does not get on."""
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


class _Meta(msgspec.Struct):
    next: str | None = None
    total_count: int | float | None = None
    limit: int | float | None = None


class _ListEnvelope(msgspec.Struct):
    """Tastypie: `{"meta": {...}, "objects": [...]}`; a missing list is an error, never an empty page."""

    objects: list[msgspec.Raw]
    meta: _Meta | None = None


def _decode_page(body: bytes, collection: str) -> Page:
    if collection == "objects":
        answer = _objects_decoder.decode(body)
        meta = answer.meta or _Meta()
        return Page(answer.objects, meta.next, _count(meta.total_count), _count(meta.limit))
    decoder = _collection_decoder(collection)
    found = decoder.decode(body)
    return Page(found.records, found.next, _count(found.matching_records))


_objects_decoder = msgspec.json.Decoder(_ListEnvelope)
_collection_decoders: dict[str, msgspec.json.Decoder[Any]] = {}


def _collection_decoder(collection: str) -> msgspec.json.Decoder[Any]:
    """Decoder of `{collection: [...], "next": url, "matching_records": n}` (case API v2)."""
    if collection not in _collection_decoders:
        struct = msgspec.defstruct(
            "Envelope",
            [
                ("records", list[msgspec.Raw]),
                ("next", str | None, None),
                ("matching_records", int | float | None, None),
            ],
            rename={"records": collection},
        )
        _collection_decoders[collection] = msgspec.json.Decoder(struct)
    return _collection_decoders[collection]


def _count(value: float | None) -> int | None:
    return int(value) if value is not None and value >= 0 else None
