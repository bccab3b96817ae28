"""How do threads prefetch pages while earlier ones are parsed and written, without filling memory?"""

import threading
from collections import deque
from collections.abc import Callable, Iterator

from explorer.extract.pages import Page

# Bound for pages prefetched, requested or with the consumer. One page is always allowed.
_MAX_BYTES = 48 * 1024 * 1024
_MAX_PAGES = 20


class BufferClosed(Exception):
    """The consumer needs no further pages, or another thread failed."""


class PageBuffer:
    """Threads put pages in, one consumer iterates. It ends when all threads have ended, or with the first error.

    `changed` is notified whenever a page is taken or put, a thread ends or the buffer is closed.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self._pages: deque[Page] = deque()
        self._count, self._bytes, self._typical = 0, 0, 0
        self._running = 0
        self._failure: BaseException | None = None
        self._closed = False

    @property
    def is_closed(self) -> bool:
        return self._closed

    def start(self, work: Callable[[], None]) -> None:
        """Run `work` in a thread. Nothing when the buffer is closed."""
        with self.changed:
            if self._closed:
                return
            self._running += 1
        threading.Thread(target=self._run, args=(work,), name="pages", daemon=True).start()

    def fetch(self, get: Callable[[], Page]) -> Page:
        """Call `get()` once there is room for its page, and put that page into the buffer.

        Raises:
            BufferClosed: no further pages are needed.
        """
        with self.changed:
            self.changed.wait_for(lambda: self._closed or self._has_room())
            if self._closed:
                raise BufferClosed
            reserved = self._typical
            self._hold(1, reserved)
        try:
            page = get()
        except BaseException:
            with self.changed:
                self._hold(-1, -reserved)
            raise
        with self.changed:
            self._typical = page.size
            self._bytes += page.size - reserved
            self._pages.append(page)
            self.changed.notify_all()
            if self._closed:
                raise BufferClosed
        return page

    def __iter__(self) -> Iterator[Page]:
        while (page := self._take()) is not None:
            size = page.size
            yield page
            del page
            with self.changed:
                self._hold(-1, -size)

    def close(self) -> None:
        """Accept no further pages. Threads end after their current request."""
        with self.changed:
            self._closed = True
            self._pages.clear()
            self.changed.notify_all()

    def _take(self) -> Page | None:
        with self.changed:
            self.changed.wait_for(lambda: self._failure or self._pages or not self._running)
            if self._failure:
                raise self._failure
            return self._pages.popleft() if self._pages else None

    def _has_room(self) -> bool:
        return not self._count or (self._count < _MAX_PAGES and self._bytes + self._typical <= _MAX_BYTES)

    def _hold(self, pages: int, size: int) -> None:
        self._count += pages
        self._bytes += size
        self.changed.notify_all()

    def _run(self, work: Callable[[], None]) -> None:
        failure: BaseException | None = None
        try:
            work()
        except BufferClosed:
            pass
        except BaseException as error:
            failure = error
        with self.changed:
            self._running -= 1
            if failure and not self._closed:
                self._failure, self._closed = failure, True
            self.changed.notify_all()
