"""What is a range of instants that is read page by page, and where is it cut in two?

Instants are whole milliseconds since 1970, which is how servers compare them; windows overlap by one.
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
    """A range of instants. `at`: every record before this millisecond has been read; None: where it begins is not known yet.
    `high`: its last millisecond; None: open, up to the extract's end. `left`: records to come, as far as the server's
    counts tell.
    """

    at: int | None = None
    high: int | None = None
    left: float | None = None
    has_records: bool = False
    # Read once more from where it ended, with what has come since; never cut, or there would always be another last one.
    is_final: bool = False
    # Records of the last page.
    records: int = 0
    # How dense they lie: records and milliseconds of the last pages, here or where this was cut from. Work comes in bursts, so
    # that one page tells little.
    recent: tuple[tuple[int, int], ...] = ()
    # The server's link to the page after the last, what was asked for with it, and whether starting anew would repeat little.
    link: Params | None = None
    asked: int = 0
    followed: set[int] = field(default_factory=set)
    may_restart: bool = False
    # The window this one was cut from, what was thought to be in it then, and those cut from it that have not been counted yet.
    origin: "Window | None" = None
    expected: float = 0.0
    uncounted: set["Window"] = field(default_factory=set)
    # How many of those held next to nothing since this one last moved: its records lie closer together than is known.
    misses: int = 0

    def cut(self, began: int, *, under_way: bool) -> "Window | None":
        """The upper half, by density as far as it is known and by time at most; None when there is nothing to cut.

        `began`: when the extract did, which no upper half begins after.
        `under_way`: the next page of this window is being fetched and stays here.
        """
        if self.at is None or self.left is None:
            return None
        low, left = self.at, self.left
        ms_each = sum(ms for _, ms in self.recent) / max(1, sum(count for count, _ in self.recent))
        if under_way:
            low, left = low + int(ms_each * self.records), left - self.records
        high = self.high if self.high is not None else began
        # The upper half begins behind `low`, which may be a millisecond with any number of records.
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
        """A page has come. `total`: records from its first one to the end of the window, when the server just counted them;
        `is_exact`: and the window's end has not been moved since."""
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
    """How a resource is asked for a range of instants. `until`: where the extract itself ends."""

    paging: TimeWindows
    base: Params
    until: datetime | None

    def of(self, at: int | None, high: int | None, size: int, offset: int = 0) -> Params:
        """The first `size` records, sorted by instant, from the millisecond `at` to `high`, both included. None: no bound."""
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
