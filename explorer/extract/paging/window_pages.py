"""How is the next page of a window requested: by the server's link, or from the last time read?"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from explorer.extract.fetcher import Fetcher
from explorer.extract.page_buffer import PageBuffer
from explorer.extract.pages import Page
from explorer.extract.paging.windows import Window, WindowParams, to_millisecond
from explorer.http.errors import ServerError, Unreachable

_InstantOf = Callable[[msgspec.Raw], int | None]


class WindowPages:
    """Fetches pages of windows into `pages`. `instant_field`: the field that records are sorted by."""

    def __init__(self, pages: PageBuffer, fetcher: Fetcher, params: WindowParams, instant_field: str) -> None:
        self._pages = pages
        self._fetcher = fetcher
        self._params = params.of
        self._instant_of = _instant_reader(instant_field)
        self._changed = pages.changed
        self._follows_links = params.paging.follows_links

    def step(self, window: Window) -> bool:
        """Fetch one page of the window, or all records of one millisecond. Returns whether the window is done."""
        return self._step_by_link(window) if self._follows_links else self._step_by_instant(window)

    def _fetch(self, window: Window, ask: Callable[[], tuple[Page, bool]]) -> tuple[Page, int | None]:
        """The page of `ask` and its last time. `ask` also returns whether the page begins at the window's `at`."""
        last: int | None = None

        def get() -> Page:
            nonlocal last
            high = window.high
            page, is_anew = ask()
            first, last = self._instants(page)
            page.series = window
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
        """One page by the server's cursor. Returns whether the window is done.

        The cursor keeps the page size of its first request: another size means a new start at the last time.
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
        return self._fetcher.fetch_sized(lambda size: self._params(window.at, window.high, size)), True

    def _step_by_instant(self, window: Window) -> bool:
        """One page from the last time read. Returns whether the window is done.

        The server has no tie-break: when a page holds only one millisecond, that millisecond is paged by offset.
        """
        at = window.at
        page, last = self._fetch(
            window, lambda: (self._fetcher.fetch_sized(lambda size: self._params(at, window.high, size)), True)
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
        """All records of one millisecond, by offset. Changed records leave it and the rest moves up: step back by as many."""
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
        return self._fetcher.fetch_sized(lambda size: self._params(at, at, size, offset))


def _instant_reader(json_field: str) -> _InstantOf:
    """Reads the millisecond in a record's field; None without one."""
    struct = msgspec.defstruct("Instant", [("value", Any, None)], rename={"value": json_field})
    decode = msgspec.json.Decoder(struct).decode

    def instant_of(record: msgspec.Raw) -> int | None:
        try:
            moment = datetime.fromisoformat(decode(record).value)  # type: ignore[attr-defined]
            return to_millisecond(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
        except (msgspec.DecodeError, RecursionError, TypeError, ValueError, OverflowError):
            return None

    return instant_of
