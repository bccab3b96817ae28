"""How is a resource with `indexed_on` read by several requests at a time without missing a record?

The range of instants is cut into windows. A thread walks its window page by page; when it is done it takes half of what is left
of the window that has most left, so that records that crowd into one hour are shared as well as those that spread over years. The
range that is open towards now ends the walk: a record that changes leaves its place, which may not have been read yet, and
appears behind all others. So the last request of the open window is sent after all other windows have ended, and the open window
begins before the walk did: the records that change meanwhile are in it.

Instants are whole milliseconds since 1970, which is how the server compares them; windows overlap by one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec

from explorer.extract.ahead import Closed, PageQueue
from explorer.extract.pages import Fetcher, Page, Params, Track
from explorer.http.errors import ServerError, Unreachable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_EARLIEST = (datetime(1, 1, 3, tzinfo=UTC) - _EPOCH) // _MILLISECOND
# Pages that must be left of a window, beside the one on its way, for half of them to be worth a request of their own.
_WORTH_SPLITTING = 1.5
_MAX_MISSES = 3
_RECENT_PAGES = 4
# How much earlier than the walk the open window begins, by the server's clock as its answers tell it.
_CLOCK_SKEW_MS = 60_000


@dataclass(eq=False)
class Window(Track):
    """A range of instants. `at`: every record before this millisecond has been read; None: where it begins is not known yet.
    `high`: its last millisecond; None: open, up to the walk's end. `left`: records to come, as far as the server's counts tell.
    """

    at: int | None = None
    high: int | None = None
    left: float | None = None
    has_records: bool = False
    # Walked once more from where it ended, with what has come since; never cut, or there would always be another last one.
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

        `began`: when the walk did, which no upper half begins after.
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
            walked_ms = max(0, last - (first if self.at is None else self.at))
            self.recent = (*self.recent[1 - _RECENT_PAGES :], (count, walked_ms))
            self.at = max(last, self.at) if self.at is not None else last

    @property
    def is_passed(self) -> bool:
        return self.high is not None and self.at is not None and self.at > self.high


class Dialect(Protocol):
    """How a resource is asked for a range of instants. `follows_links`: the answer's `next` leads on within it."""

    follows_links: bool

    def params(self, at: int | None, high: int | None, size: int, offset: int = 0) -> Params:
        """The first `size` records, sorted by instant, from the millisecond `at` to `high`, both included. None: no bound."""
        ...


class WindowWalk:
    """Walks everything from `start` on into `pages`. `is_bounded`: the walk itself ends at a fixed instant, which records that
    change leave for good; their turn comes with the next walk."""

    def __init__(
        self, fetcher: Fetcher, pages: PageQueue, dialect: Dialect, instant_of: "InstantOf", *, is_bounded: bool
    ) -> None:
        self._fetcher = fetcher
        self._pages = pages
        self._dialect = dialect
        self._instant_of = instant_of
        self._is_bounded = is_bounded
        self._step = self._step_by_link if dialect.follows_links else self._step_by_instant
        self._changed = pages.changed
        self._active: set[Window] = set()
        self._waiting: list[Window] = []
        self._resting: Window | None = None
        self._started = to_millisecond(datetime.now(UTC)) - _CLOCK_SKEW_MS
        self._reached: int | None = None
        self._workers, self._idle = 1, 0
        self._is_first_page = True

    def run(self, start: int | None) -> None:
        """Walk from the millisecond `start`. The work of the queue's first thread; it starts the others."""
        self._waiting.append(Window(at=start))
        self._work()

    def _work(self) -> None:
        try:
            while (window := self._next_window()) is not None:
                while self._walk_page(window):
                    pass
        except BaseException:
            with self._changed:
                self._leave()
            raise

    def _next_window(self) -> Window | None:
        """What to walk next; None when there is nothing more for this thread, which has then left."""
        with self._changed:
            while not self._pages.is_closed:
                if self._workers > self._useful_workers():
                    self._leave()
                    return None
                window = self._take_window()
                if window is not None:
                    self._active.add(window)
                    return window
                if not self._active:
                    self._leave()
                    return None
                self._idle += 1
                self._changed.wait()
                self._idle -= 1
            raise Closed

    def _leave(self) -> None:
        """One thread less, from the moment it is decided: of two that are one too many only one may go."""
        self._workers -= 1
        self._changed.notify_all()

    @property
    def _began(self) -> int:
        return self._started - int(self._fetcher.client.server_behind_s * 1000)

    def _take_window(self) -> Window | None:
        if self._waiting:
            return self._waiting.pop()
        if not self._active:
            window, self._resting = self._resting, None
            if window is not None:
                window.is_final = True
                window.at = self._reached if self._is_adrift(window) else window.at
            return window
        for window in sorted(self._splittable(), key=lambda window: window.left or 0, reverse=True):
            upper = window.cut(self._began, under_way=True)
            if upper is not None:
                return upper
        return None

    def _splittable(self) -> list[Window]:
        """Windows with much left, as far as is known for sure: what was cut before has been counted."""
        enough = _WORTH_SPLITTING * self._fetcher.size.current
        return [
            window
            for window in self._active
            if not window.is_final
            and window.origin is None
            and not window.uncounted
            and window.misses < _MAX_MISSES
            and (window.left or 0) - window.records > enough
        ]

    def _walk_page(self, window: Window) -> bool:
        """Fetch the window's next page; whether this thread goes on with the window."""
        with self._changed:
            is_alone = self._active == {window} and not self._waiting
        is_done = self._step(window)
        with self._changed:
            self._changed.notify_all()
            if is_done:
                self._end(window, is_alone)
                return False
            self._share(window)
            if self._workers <= self._useful_workers():
                return True
            self._active.discard(window)
            self._waiting.append(window)
            return False

    def _end(self, window: Window, was_alone: bool) -> None:
        """The server has no further page of the window. The open one rests until its end can be looked at once more."""
        self._active.discard(window)
        if window.high is not None:
            if window.has_records and window.at is not None:
                self._reached = window.at if self._reached is None else max(window.at, self._reached)
        elif not self._is_bounded and (not was_alone or self._is_adrift(window)):
            window.link, window.left, self._resting = None, 0.0, window

    def _is_adrift(self, window: Window) -> bool:
        """Whether the open window begins where nothing was found, perhaps in the server's future: new records may come before it,
        behind the last one known."""
        reached = self._reached
        return not window.has_records and reached is not None and (window.at is None or reached < window.at)

    def _share(self, window: Window) -> None:
        """Start threads for what is left, as many as the server's pace feeds."""
        if self._is_first_page:
            self._is_first_page = False
            self._waiting += self._fan_out(window)
        elif self._idle or not (self._waiting or self._splittable()):
            return
        for _ in range(min(len(self._waiting) or 1, self._useful_workers() - self._workers)):
            self._workers += 1
            self._pages.start(self._work)

    def _fan_out(self, window: Window) -> list[Window]:
        windows = [window]
        pages_left = -int(-(window.left or 0) // self._fetcher.size.current)
        while len(windows) < min(self._useful_workers(), pages_left):
            upper = max(windows, key=lambda one: one.left or 0).cut(self._began, under_way=False)
            if upper is None:
                break
            windows.append(upper)
        return windows[1:]

    def _useful_workers(self) -> int:
        fed = self._fetcher.client.limiter.allowed_parallelism(self._fetcher.latency_s)
        return max(1, min(self._fetcher.source.max_windows, fed))

    def _fetch(self, window: Window, ask: Callable[[], tuple[Page, bool]]) -> tuple[Page, int | None]:
        """The page that `ask` gets and its last instant. `ask` tells as well whether the page begins at the window's `at`."""
        last: int | None = None

        def get() -> Page:
            nonlocal last
            high = window.high
            page, is_anew = ask()
            first, last = self._instants(page)
            page.track = window
            page.is_tie = first is not None and first == last
            with self._changed:
                page.moved = last is not None and (window.at is None or last > window.at)
                window.note(page, first, last, page.total if is_anew else None, is_exact=window.high == high)
            return page

        return self._pages.fetch(get), last

    def _instants(self, page: Page) -> tuple[int | None, int | None]:
        instants = (self._instant_of(record) for record in page.records)
        first = next((instant for instant in instants if instant is not None), None)
        if first is None:
            return None, None
        instants = (self._instant_of(record) for record in reversed(page.records))
        return first, next(instant for instant in instants if instant is not None)

    def _step_by_link(self, window: Window) -> bool:
        """One page by the server's cursor; whether the window is done.

        The cursor holds the page size of the request that it began with: another size starts anew at the last instant.
        """
        page, _ = self._fetch(window, lambda: self._ask_by_link(window))
        if not page.next:
            return True
        link = self._fetcher.next_params(page)
        if hash(link) in window.followed:
            raise self._fetcher.endless("the server names a page that was read before", page.number)
        window.followed.add(hash(link))
        window.link, window.asked = link, page.asked
        return window.is_passed

    def _ask_by_link(self, window: Window) -> tuple[Page, bool]:
        size = self._fetcher.size.current
        if window.link is not None and (size == window.asked or not window.may_restart):
            try:
                return self._fetcher.fetch(window.link, window.asked), False
            except (ServerError, Unreachable) as error:
                if window.at is None or not self._fetcher.may_go_smaller(window.asked, error):
                    raise
        window.followed.clear()
        return self._fetcher.fetch_sized(lambda size: self._dialect.params(window.at, window.high, size)), True

    def _step_by_instant(self, window: Window) -> bool:
        """One page from the last instant seen; whether the window is done.

        The server has no tie-break: a page that does not get beyond its first millisecond has that one paged by offset.
        """
        at = window.at
        page, last = self._fetch(
            window, lambda: (self._fetcher.fetch_sized(lambda size: self._dialect.params(at, window.high, size)), True)
        )
        if page.is_last or not page.records:
            return True
        if last is None:
            raise self._fetcher.endless("its records carry no instant to go on from", page.number)
        if at is not None and last < at:
            raise self._fetcher.endless("the server's records go back in time", page.number)
        if last == at:
            self._one_millisecond(window, at)
            with self._changed:
                window.at = at + 1
        return window.is_passed

    def _one_millisecond(self, window: Window, at: int) -> None:
        """All records of one millisecond, by offset. Records that change leave it, and the rest moves up: step back as far."""
        offset, total = 0, None
        while True:
            page, _ = self._fetch(window, lambda offset=offset: (self._ask_one_millisecond(at, offset), False))  # type: ignore[misc]
            if total is not None and page.total is not None and page.total < total:
                offset, total = max(0, offset - (total - page.total)), page.total
                continue
            total = page.total
            if page.is_last or not page.records:
                return
            offset += len(page.records)

    def _ask_one_millisecond(self, at: int, offset: int) -> Page:
        return self._fetcher.fetch_sized(lambda size: self._dialect.params(at, at, size, offset))


InstantOf = Callable[[msgspec.Raw], int | None]


def instant_reader(json_field: str) -> InstantOf:
    """Reads the millisecond in a record's field; None when there is none."""
    struct = msgspec.defstruct("Instant", [("value", Any, None)], rename={"value": json_field})
    decode = msgspec.json.Decoder(struct).decode

    def instant_of(record: msgspec.Raw) -> int | None:
        try:
            moment = datetime.fromisoformat(decode(record).value)  # type: ignore[attr-defined]
            return to_millisecond(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
        except (msgspec.DecodeError, RecursionError, TypeError, ValueError, OverflowError):
            return None

    return instant_of


def to_millisecond(moment: datetime) -> int:
    return max(_EARLIEST, (moment - _EPOCH) // _MILLISECOND)


def from_millisecond(instant: int) -> datetime:
    return _EPOCH + instant * _MILLISECOND
