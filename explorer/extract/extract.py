"""Which requests read a whole resource, each record at least once, and when is it complete?

An extract ends when the server has no further page, never because a total was reached: totals are separate counts that disagree
with the data. Records may come twice (rows that move between pages, overlapping windows) and in any order; the consumer keeps the
newest of each id. Paging that makes no progress is an error that names resource and page. `explorer.providers.paging` declares
the ways of paging.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime

from explorer.extract.distinct import DistinctIds
from explorer.extract.fetcher import Fetcher
from explorer.extract.page_buffer import PageBuffer
from explorer.extract.pages import Page, Params
from explorer.extract.paging.keyset import by_id
from explorer.extract.paging.links import by_link, by_token
from explorer.extract.paging.offsets import by_offset
from explorer.extract.paging.resources import by_resource
from explorer.extract.paging.window_workers import by_windows
from explorer.extract.records.content_keys import Occurrences
from explorer.extract.records.reader import Losses, RecordReader, Reject, Row
from explorer.http.client import ApiClient
from explorer.providers.paging import Keyset, NextLink, Offset, Paging, Resource, Single, Styles, TimeWindows, Token
from explorer.registry import Pass, Source

# A page may repeat known rows (overlap, moved rows, an inclusive cursor). More such pages in a row mean that paging goes in
# circles.
_MAX_PAGES_WITHOUT_NEWS = 5
_OFFSET_READS = 3

_Produce = Callable[[PageBuffer], None]


@dataclass(frozen=True)
class Batch:
    """The rows of one page. `page`: its request's number, from 1; `total`: the server's count for this part of the extract."""

    page: int
    rows: list[Row]
    rejects: list[Reject]
    total: int | None


@dataclass
class Extract:
    """One complete pass over a source. `styles`: the provider's paging styles, by name. `since`, `until`: only records indexed
    after the one and not after the other. `values`: the values of a source with `for_each`, one part each. Iterate `batches()`
    once, in one thread; the threads that prefetch end with it.

    Results: `losses`; `pages`, the number of pages; `record_count`, distinct records; `repeated`, ids that came more than once;
    `window_total`, the server's count at the start between `since` and `until` (None without a count); `api_total`, the same
    count when neither bound was given. Equal `fingerprint`s mean that two extracts read the same ids, in any order.
    `short_pages` (short pages that others followed) and `is_steady` (all pages of a part gave the same count) show whether
    records may be missing.
    """

    client: ApiClient
    source: Source
    styles: Styles
    since: datetime | None = None
    until: datetime | None = None
    values: Sequence[str] = ()
    losses: Losses = field(default_factory=Losses)
    window_total: int | None = None
    repeated: set[str] = field(default_factory=set)
    fingerprint: int = 0
    short_pages: int = 0
    is_steady: bool = True

    def __post_init__(self) -> None:
        self._fetcher = Fetcher(self.client, self.source, self.styles.envelope_of(self.source))
        self._paging: Paging = self.styles.paging_of(self.source)
        self._ids = DistinctIds()
        self._occurrences = Occurrences()

    @property
    def record_count(self) -> int:
        return len(self._ids)

    @property
    def pages(self) -> int:
        return self._fetcher.pages

    @property
    def api_total(self) -> int | None:
        return self.window_total if self.since is None and self.until is None else None

    @property
    def places_move(self) -> bool:
        """Whether a record's position among the pages changes when records before it come or go. The other ways of paging
        continue after the last record, which nothing moves."""
        return isinstance(self._paging, Offset | Single)

    def batches(self) -> Iterator[Batch]:
        """Every page of every part, in any order.

        Raises:
            ResponseMalformed: an answer of another shape, a next page on another server, or paging without progress.
            ApiError: the server refuses or fails.
        """
        totals: list[int | None] = []
        for part, constants in self._parts():
            reader = RecordReader(self.source, constants, self.losses, self._occurrences)
            totals.append((yield from self._read_part(part, reader)))
        known = [total for total in totals if total is not None]
        self.window_total = sum(known) if len(known) == len(totals) else None

    def _parts(self) -> Iterator[tuple[Pass, dict[str, str | bool | int]]]:
        """The parameters of each part, and the values that it adds to its records."""
        each = self.source.for_each
        for part in self.source.passes:
            if each is None:
                yield part, part.constants
                continue
            for value in self.values:
                yield Pass(params={**part.params, each.param: value}), {**part.constants, each.column: value}

    def _read_part(self, part: Pass, reader: RecordReader) -> Generator[Batch, None, int | None]:
        """The pages of one part; returns the server's count of it."""
        base = tuple({**self.source.params, **part.params}.items())
        if isinstance(self._paging, Offset):
            return (yield from self._read_again_by_offset(self._paging, base, reader))
        return (yield from self._stream(self._producer(self._paging, base), reader))

    def _producer(self, paging: Paging, base: Params) -> _Produce:
        fetcher = self._fetcher
        match paging:
            case TimeWindows():
                return lambda pages: by_windows(pages, fetcher, paging, base, self.since, self.until)
            case NextLink():
                return lambda pages: by_link(pages, fetcher, paging, base)
            case Token():
                return lambda pages: by_token(pages, fetcher, paging, base)
            case Keyset():
                return lambda pages: by_id(pages, fetcher, paging, base)
            case Offset():
                return lambda pages: by_offset(pages, fetcher, paging, base)
            case Resource():
                return lambda pages: by_resource(pages, fetcher, paging, self.since)
            case Single():
                return lambda pages: _single(pages, fetcher, base)

    def _stream(
        self, produce: _Produce, reader: RecordReader, known: DistinctIds | None = None
    ) -> Generator[Batch, None, int | None]:
        """The rows of the pages that `produce` fetches in a thread. Returns the first page's count.

        Older servers count from each page on, so only the first page's count is the total.
        """
        total, is_first = None, True
        with closing(PageBuffer()) as pages:
            pages.start(lambda: produce(pages))
            for page in pages:
                total, is_first = (page.total if is_first else total), False
                self.is_steady = self.is_steady and page.total == total
                yield self._batch(page, reader, total, known)
        return total

    def _read_again_by_offset(
        self, paging: Offset, base: Params, reader: RecordReader
    ) -> Generator[Batch, None, int | None]:
        """Reads a list by offset. Some lists are unsorted, so that pages skip rows: read again while fewer rows came than were
        counted."""
        before, total = self.record_count, None
        for _ in range(_OFFSET_READS):
            total = yield from self._stream(self._producer(paging, base), reader, DistinctIds())
            if total is None or self.record_count - before + self.losses.rejected.total() >= total:
                break
        return total

    def _batch(self, page: Page, reader: RecordReader, total: int | None, known: DistinctIds | None) -> Batch:
        """The page's rows. `known`: ids that are not new in this pass; by default all ids so far."""
        rows: list[Row] = []
        rejects: list[Reject] = []
        for raw in page.records:
            record = reader.read(raw, long_numbers=page.long_numbers)
            if isinstance(record, Row):
                rows.append(record)
            else:
                rejects.append(record)
        self.losses.repaired += page.repaired
        ids = [row.id for row in rows]
        again = self._ids.add(ids)
        self.repeated.update(again)
        self.fingerprint += sum(map(hash, ids)) - sum(map(hash, again))
        self.short_pages += page.series.is_short and bool(page.records)
        page.series.is_short = page.is_short
        if known is not None:
            again = known.add(ids)
        self._raise_if_stale(page, bool(len(again) < len(ids) or rejects))
        return Batch(page.number, rows, rejects, total)

    def _raise_if_stale(self, page: Page, has_news: bool) -> None:
        if not page.records and not page.next:
            return
        series = page.series
        series.stale = 0 if has_news or page.moved else series.stale + 1
        # Windows overlap by one millisecond, which may hold any number of records.
        allowed = _MAX_PAGES_WITHOUT_NEWS + (self.record_count // len(page.records) if page.is_tie else 0)
        if series.stale > allowed:
            raise self._fetcher.endless("page after page holds only records that were read before", page.number)


def _single(pages: PageBuffer, fetcher: Fetcher, base: Params) -> None:
    pages.fetch(lambda: fetcher.fetch(base))
