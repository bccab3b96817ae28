"""How do parallel requests read a resource with a time cursor without missing a record?

The time range is cut into windows. A thread reads its window page by page. When the window is done, the thread takes half of the
window that has most left: this balances the load whether records crowd into one hour or spread over years. The window that is
open towards now ends the extract. A record that changes leaves its place, which may not have been read yet, and moves to the
end. So the open window's last request is sent after all other windows have ended, and the window begins before the extract did:
records that change meanwhile are in it.
"""

from datetime import UTC, datetime

from explorer.extract.fetcher import Fetcher
from explorer.extract.page_buffer import BufferClosed, PageBuffer
from explorer.extract.pages import Params
from explorer.extract.paging.window_pages import WindowPages
from explorer.extract.paging.windows import Window, WindowParams, to_millisecond
from explorer.providers.paging import TimeWindows

# A window is split only when more pages than this are left, beside the one in flight.
_WORTH_SPLITTING = 1.5
_MAX_MISSES = 3
# How much earlier than the extract the open window begins, by the server's clock as its answers show it.
_CLOCK_SKEW_MS = 60_000


def by_windows(
    pages: PageBuffer,
    fetcher: Fetcher,
    paging: TimeWindows,
    base: Params,
    since: datetime | None,
    until: datetime | None,
) -> None:
    """All pages from `since` to `until`."""
    source = fetcher.source
    field = source.field_of(source.cursor.field) if source.cursor else source.field_of(paging.field)
    steps = WindowPages(pages, fetcher, WindowParams(paging, base, until), field)
    workers = WindowWorkers(pages, fetcher, steps, is_bounded=until is not None)
    workers.run(to_millisecond(since) if since else None)


class WindowWorkers:
    """Reads everything from a start time on, with as many threads as the request rate allows. `is_bounded`: the extract ends at
    a fixed time. Records that change leave its range, and the next extract reads them."""

    def __init__(self, pages: PageBuffer, fetcher: Fetcher, steps: WindowPages, *, is_bounded: bool) -> None:
        self._fetcher = fetcher
        self._pages = pages
        self._step = steps.step
        self._is_bounded = is_bounded
        self._changed = pages.changed
        self._active: set[Window] = set()
        self._waiting: list[Window] = []
        self._resting: Window | None = None
        self._started = to_millisecond(datetime.now(UTC)) - _CLOCK_SKEW_MS
        self._reached: int | None = None
        self._workers, self._idle = 1, 0
        self._is_first_page = True

    def run(self, start: int | None) -> None:
        """Read from the millisecond `start`. Runs in the buffer's first thread, which starts the others."""
        self._waiting.append(Window(at=start))
        self._work()

    def _work(self) -> None:
        try:
            while (window := self._next_window()) is not None:
                while self._read_page(window):
                    pass
        except BaseException:
            with self._changed:
                self._leave()
            raise

    def _next_window(self) -> Window | None:
        """The next window to read; None when this thread has nothing left to do and was counted out."""
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
            raise BufferClosed

    def _leave(self) -> None:
        """Count this thread out at once, so that of two surplus threads only the right number ends."""
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
        """Windows that certainly have much left: what was cut off before has been counted."""
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

    def _read_page(self, window: Window) -> bool:
        """Fetch the window's next page. Returns whether this thread continues with the window."""
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
        """The server has no further page of the window. The open window pauses until its end is read once more."""
        self._active.discard(window)
        if window.high is not None:
            if window.has_records and window.at is not None:
                self._reached = window.at if self._reached is None else max(window.at, self._reached)
        elif not self._is_bounded and (not was_alone or self._is_adrift(window)):
            window.link, window.left, self._resting = None, 0.0, window

    def _is_adrift(self, window: Window) -> bool:
        """Whether the open window begins where no record was found, perhaps in the server's future. New records may then come
        before it, after the last known one."""
        reached = self._reached
        return not window.has_records and reached is not None and (window.at is None or reached < window.at)

    def _share(self, window: Window) -> None:
        """Start threads for the rest, as many as the request rate allows."""
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
