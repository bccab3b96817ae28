"""What is a page, and how large may the next one be?"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

Params = tuple[tuple[str, str], ...]

# Several pages are in memory at a time; beyond some MB larger ones are no faster.
PAGE_MAX_BYTES = 8 * 1024 * 1024
# Failing pages of fewer records are not made smaller.
SMALLEST_PAGE = 20
# Servers and proxies cut requests off after 30 to 60 s, and long requests slow the server down for its users.
SLOW_PAGE_S = 10.0
_QUICK_PAGE_S = 5.0
_SHRINK_AFTER_FAILURE = 4
_QUICK_PAGES_TO_RECOVER = 20


@dataclass(eq=False)
class PageSeries:
    """Consecutive pages. `stale`: how many of the last ones had nothing new; `is_short`: whether the last one had fewer records
    than requested, which only the end has."""

    stale: int = 0
    is_short: bool = False


class Page(msgspec.Struct):
    """One answer. `records`: undecoded; `next`: link to the next page; `total`: the server's count; `limit`: the page size that
    the server reports; `number`: of the request, from 1; `asked`: number of requested records; `size`: bytes of the answer's
    text; `repaired`: replaced characters; `long_numbers`: whether it may hold numbers beyond Postgres' range; `series`: the
    pages that it belongs to; `moved`: whether it got further in time than the page before; `is_tie`: whether all its records
    have the same time."""

    records: list[msgspec.Raw]
    next: str | None
    total: int | None
    limit: int | None = None
    number: int = 0
    asked: int = 0
    size: int = 0
    repaired: int = 0
    long_numbers: bool = False
    series: PageSeries = msgspec.field(default_factory=PageSeries)
    moved: bool = False
    is_tie: bool = False

    def of(self, series: PageSeries) -> "Page":
        """This page, as the next one of `series`."""
        self.series = series
        return self

    @property
    def is_short(self) -> bool:
        """Whether it has fewer records than requested."""
        return len(self.records) < min(self.limit or self.asked, self.asked)

    @property
    def is_last(self) -> bool:
        """A short page without a next one. A full page may have followers, whatever the server's count suggests."""
        return not self.next and self.is_short


class PageSize:
    """How many records to request next, adapted to the pages so far. Shared by all threads of an extract.

    Grows up to `largest` while pages are quick and small, since servers count requests; shrinks when they are not.
    """

    def __init__(self, first: int, largest: int) -> None:
        self._lock = threading.Lock()
        self._declared = self._largest = largest
        self._quick_pages = 0
        self.current = first

    def note(self, asked: int, records: int, size: int, duration_s: float) -> None:
        """Adapt to a page of `records` records and `size` bytes that took the server `duration_s` seconds."""
        if not records:
            return
        fits = max(1, PAGE_MAX_BYTES * records // max(1, size))
        with self._lock:
            if duration_s > SLOW_PAGE_S:
                self._bound(asked // 2)
            self.current = max(min(self.current, fits), min(self.current, SMALLEST_PAGE))
            if records < asked or asked < self.current or duration_s > _QUICK_PAGE_S:
                return
            self._recover()
            larger = min(self._largest, fits, int(asked * _QUICK_PAGE_S / max(duration_s, 0.001)))
            # A new size starts paging at a new place: only for a gain.
            if larger >= self.current * 3 // 2:
                self.current = larger

    def shrink(self, failed: int) -> None:
        """A page of `failed` records failed."""
        with self._lock:
            self._bound(failed // _SHRINK_AFTER_FAILURE)

    def _bound(self, largest: int) -> None:
        self._largest = max(largest, min(SMALLEST_PAGE, self._declared))
        self._quick_pages = 0
        self.current = min(self.current, self._largest)

    def _recover(self) -> None:
        self._quick_pages += 1
        if self._quick_pages >= _QUICK_PAGES_TO_RECOVER:
            self._quick_pages = 0
            self._largest = min(self._declared, self._largest * 2)


def with_own(base: Params, own: Mapping[str, str]) -> Params:
    """`base` with the parameters `own`, which replace those with the same name."""
    return tuple({**dict(base), **own}.items())
