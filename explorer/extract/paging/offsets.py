"""How is a list read by position?"""

from explorer.extract.fetcher import Fetcher
from explorer.extract.page_buffer import PageBuffer
from explorer.extract.pages import PageSeries, Params, with_own
from explorer.providers.paging import Offset


def by_offset(pages: PageBuffer, fetcher: Fetcher, paging: Offset, base: Params) -> None:
    """All pages in order, until a short one without a next link."""
    offset, series = 0, PageSeries()

    def params(size: int) -> Params:
        return with_own(base, {paging.size: str(size), **({paging.offset: str(offset)} if offset else {})})

    while True:
        page = pages.fetch(lambda: fetcher.fetch_sized(params).of(series))
        if page.next:
            fetcher.next_params(page)
        if page.is_last or not page.records:
            return
        offset += len(page.records)
