"""What is a time range that is read page by page, and where is it split?

Times are whole milliseconds since 1970, as servers compare them. Windows overlap by one millisecond.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from explorer.extract.pages import Page, PageSeries, Params
from explorer.providers.paging import TimeWindows

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_EARLIEST = (datetime(1, 1, 3, tzinfo=UTC) - _EPOCH) // _MILLISECOND
_WHOLE_MILLISECOND = timedelta(microseconds=999)
_RECENT_PAGES = 4


@dataclass(eq=False)
class Window(PageSeries):
    """A time range. `at`: every record before this millisecond was read; None: its beginning is unknown. `high`: its last
    millisecond; None: open, up to the extract's end. `left`: remaining records, estimated from the server's counts.
    """

    at: int | None = None
    high: int | None = None
    left: float | None = None
    has_records: bool = False
    # Read once more from its end, for records that came since. Never split, or there would always be another last window.
    is_final: bool = False
    # Number of records of the last page.
    records: int = 0
    # Density: records and milliseconds of the last pages, here or in the window that this one was split from. Records come in
    # bursts, so one page says little.
    recent: tuple[tuple[int, int], ...] = ()
    # The server's link to the next page, its parameters, and whether a new start would repeat only little.
    link: Params | None = None
    asked: int = 0
    followed: set[int] = field(default_factory=set)
    may_restart: bool = False
    # The window that this one was split from, its estimated content at that moment, and the parts whose records are not counted
    # yet.
    origin: "Window | None" = None
    expected: float = 0.0
    uncounted: set["Window"] = field(default_factory=set)
    # How many of those parts were nearly empty since this window last advanced: its records are denser than estimated.
    misses: int = 0

    def cut(self, began: int, *, under_way: bool) -> "Window | None":
        """The upper half, by density where known, at most by time; None when there is nothing to split.

        `began`: start of the extract; no upper half begins after it. `under_way`: this window's next page is being fetched and
        stays here.
        """
        if self.at is None or self.left is None:
            return None
        low, left = self.at, self.left
        ms_each = sum(ms for _, ms in self.recent) / max(1, sum(count for count, _ in self.recent))
        if under_way:
            low, left = low + int(ms_each * self.records), left - self.records
        high = self.high if self.high is not None else began
        # The upper half begins after `low`, a millisecond that may hold any number of records.
        if left <= 0 or high < low + 2:
            return None
        middle = (low + high) // 2
        if ms_each:
            middle = max(low + 1, min(middle, low + int(ms_each * left / 2)))
        upper = Window(
            at=middle,
            high=self.high,
            left=left / 2,
            records=self.records,
            recent=self.recent,
            origin=self,
            expected=left / 2,
        )
        self.high, self.left = middle, self.left - left / 2
        self.uncounted.add(upper)
        return upper

    def note(self, page: Page, first: int | None, last: int | None, total: int | None, *, is_exact: bool) -> None:
        """Take account of a fetched page. `total`: the server's count from the page's first record to the window's end, if it
        gave one; `is_exact`: the window's end has not moved since that count."""
        count = len(page.records)
        if total is not None and self.origin is not None:
            self.origin.uncounted.discard(self)
            self.origin.left = max(0.0, (self.origin.left or 0.0) + self.expected - total)
            self.origin.misses += total < self.expected / 4
            self.origin = None
        if total is not None and is_exact:
            self.left = max(0.0, total - count)
            for upper in self.uncounted:
                upper.origin = None
            self.uncounted.clear()
        elif self.left is not None:
            self.left = max(0.0, self.left - count)
        self.may_restart = page.moved and not page.is_tie
        self.misses = 0 if page.moved else self.misses
        if first is not None and last is not None:
            self.records, self.has_records = count, True
            passed_ms = max(0, last - (first if self.at is None else self.at))
            self.recent = (*self.recent[1 - _RECENT_PAGES :], (count, passed_ms))
            self.at = max(last, self.at) if self.at is not None else last

    @property
    def is_passed(self) -> bool:
        return self.high is not None and self.at is not None and self.at > self.high


@dataclass(frozen=True)
class WindowParams:
    """The parameters that select a time range of a resource. `until`: the end of the extract."""

    paging: TimeWindows
    base: Params
    until: datetime | None

    def of(self, at: int | None, high: int | None, size: int, offset: int = 0) -> Params:
        """The first `size` records, sorted by time, from the millisecond `at` to `high`, both included. None: no bound."""
        paging = self.paging
        end = from_millisecond(high) + _WHOLE_MILLISECOND if high is not None else self.until
        own = [(paging.size, str(size)), *paging.fixed]
        if at is not None:
            own.append((paging.lower, self._written(from_millisecond(at - paging.lower_is_exclusive))))
        if end is not None:
            own.append((paging.upper, self._written(end)))
        if offset:
            own.append((paging.offset, str(offset)))
        return (*self.base, *own)

    def _written(self, moment: datetime) -> str:
        text = moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
        return f"{text}Z" if self.paging.with_zone else text


def to_millisecond(moment: datetime) -> int:
    return max(_EARLIEST, (moment - _EPOCH) // _MILLISECOND)


def from_millisecond(instant: int) -> datetime:
    return _EPOCH + instant * _MILLISECOND
