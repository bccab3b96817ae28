"""Which requests read a whole resource, each record at least once, and when is the walk at its end?

A walk ends when the server has nothing further, never because a total was reached: totals are separate counts that disagree
with the data. Records may come twice (rows that move under the walk, overlapping windows) and in any order; the consumer keeps
the newest of each id. A walk that does not get on is an error that names resource and page. The ways of paging:
docs/commcare_api.md.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from explorer.extract.ahead import PageQueue
from explorer.extract.distinct import DistinctIds
from explorer.extract.pages import Fetcher, Page, Params, Track
from explorer.extract.records import Losses, RecordReader, Reject, Row
from explorer.extract.windows import Dialect, WindowWalk, from_millisecond, instant_reader, to_millisecond
from explorer.http.client import ApiClient
from explorer.registry import Pass, Source

# A page may repeat known rows (overlap, rows that moved, HQ's first cursor); more in a row mean that it goes in circles.
_MAX_PAGES_WITHOUT_NEWS = 5
_OFFSET_WALKS = 3
_WHOLE_MILLISECOND = timedelta(microseconds=999)

_Produce = Callable[[PageQueue], None]


@dataclass(frozen=True)
class Batch:
    """The rows of one page. `page`: its request's number, from 1; `total`: the server's count for this part of the walk."""

    page: int
    rows: list[Row]
    rejects: list[Reject]
    total: int | None


@dataclass
class Walk:
    """Reads one source. `since`: only records indexed after it; `until`: none indexed after it. `values`: what a source with
    `for_each` is walked for, one walk each. Iterate `batches()` once, in one thread; others fetch ahead and end with it.

    Afterwards `losses` and `pages` tell what was met, `seen` how many distinct records there were, `repeated` the ids of those
    that came more than once, `window_total` how many the server counted at the start between `since` and `until` (None when it
    gave no count), and `api_total` the same when neither was given: how many the resource has. Whether two walks brought the same
    is told by `fingerprint` (of the ids, in whatever order), whether one may have left something out by `short_pages` (with
    others behind them) and `is_steady` (all pages of a part came with the same count).
    """

    client: ApiClient
    source: Source
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
        self._fetcher = Fetcher(self.client, self.source)
        self._ids = DistinctIds()

    @property
    def seen(self) -> int:
        return len(self._ids)

    @property
    def pages(self) -> int:
        return self._fetcher.pages

    @property
    def api_total(self) -> int | None:
        return self.window_total if self.since is None and self.until is None else None

    def batches(self) -> Iterator[Batch]:
        """Every page of every pass, in no certain order.

        Raises:
            ResponseMalformed: an answer of another shape, a next page elsewhere, or a walk that does not get on.
            ApiError: the server refuses or fails.
        """
        totals: list[int | None] = []
        for part, constants in self._parts():
            reader = RecordReader(self.source, constants, self.losses)
            totals.append((yield from self._walk(part, reader)))
        known = [total for total in totals if total is not None]
        self.window_total = sum(known) if len(known) == len(totals) else None

    def _parts(self) -> Iterator[tuple[Pass, dict[str, str | bool | int]]]:
        """Each walk's own parameters, and the values that it adds to its records."""
        each = self.source.for_each
        for part in self.source.passes:
            if each is None:
                yield part, part.constants
                continue
            for value in self.values:
                yield Pass(params={**part.params, each.param: value}), {**part.constants, each.column: value}

    def _walk(self, part: Pass, reader: RecordReader) -> Generator[Batch, None, int | None]:
        """The pages of one part; returns the server's count of it."""
        match self.source.paging:
            case "cursor" | "indexed_on":
                return (yield from self._stream(self._windows(part), reader))
            case "link":
                return (yield from self._stream(lambda pages: self._by_link(pages, part), reader))
            case "offset":
                return (yield from self._by_offset(part, reader))
            case "single":
                return (yield from self._stream(lambda pages: self._single(pages, part), reader))

    def _stream(
        self, produce: _Produce, reader: RecordReader, known: DistinctIds | None = None
    ) -> Generator[Batch, None, int | None]:
        """The rows of the pages that `produce` fetches in a thread; returns the first page's count.

        Older servers count what remains from each page on: the first page's count is the whole.
        """
        total, is_first = None, True
        with closing(PageQueue()) as pages:
            pages.start(lambda: produce(pages))
            for page in pages:
                total, is_first = (page.total if is_first else total), False
                self.is_steady = self.is_steady and page.total == total
                yield self._batch(page, reader, total, known)
        return total

    def _windows(self, part: Pass) -> _Produce:
        cursor = self.source.cursor.field if self.source.cursor else "indexed_on"
        fields = {column: field_name for field_name, column in self.source.rename.items()}
        base = tuple({**self.source.params, **part.params}.items())
        dialect: Dialect = _Forms(base, self.until) if self.source.paging == "indexed_on" else _Cases(base, self.until)
        start = to_millisecond(self.since) if self.since else None

        def produce(pages: PageQueue) -> None:
            instant_of = instant_reader(fields.get(cursor, cursor))
            WindowWalk(self._fetcher, pages, dialect, instant_of, is_bounded=self.until is not None).run(start)

        return produce

    def _by_offset(self, part: Pass, reader: RecordReader) -> Generator[Batch, None, int | None]:
        """Tastypie lists: by offset. Some are unsorted, which skips rows: read again while fewer than counted were seen."""
        before, total = self.seen, None
        for _ in range(_OFFSET_WALKS):
            total = yield from self._stream(lambda pages: self._offset_once(pages, part), reader, DistinctIds())
            if total is None or self.seen - before + self.losses.rejected.total() >= total:
                break
        return total

    def _offset_once(self, pages: PageQueue, part: Pass) -> None:
        offset, track = 0, Track()

        def params(size: int) -> Params:
            return self._params(part, limit=str(size), **({"offset": str(offset)} if offset else {}))

        while True:
            page = pages.fetch(lambda: _on(track, self._fetcher.fetch_sized(params)))
            if page.next:
                self._fetcher.next_params(page)
            if page.is_last or not page.records:
                return
            offset += len(page.records)

    def _by_link(self, pages: PageQueue, part: Pass) -> None:
        """UCR data: `next` is there whenever the page holds anything, so that only an empty page is the end."""
        track, followed = Track(), set[int]()
        first = self._params(part)
        link = first

        def params(size: int) -> Params:
            return tuple({**dict(link), "limit": str(size)}.items())

        def fetch_exactly(size: int) -> Page:
            return pages.fetch(lambda: _on(track, self._fetcher.fetch(params(size), size)))

        while True:
            page = pages.fetch(lambda: _on(track, self._fetcher.fetch_sized(params)))
            page = self._ended_with_document(page, fetch_exactly)
            if not page.records or not page.next:
                return
            link = self._fetcher.next_params(page)
            if link == first or hash(link) in followed:
                raise self._fetcher.endless("the server names a page that was read before", page.number)
            followed.add(hash(link))

    def _ended_with_document(self, page: Page, fetch_exactly: Callable[[int], Page]) -> Page:
        """The page, or one from the same place that does not end within a document: UCR's link leads behind the whole of it.

        Asked for without the last document, or larger when there is no other in it.
        """
        while (whole := _rows_of_whole_documents(page)) < len(page.records):
            again = fetch_exactly(whole or 2 * len(page.records))
            if not whole and len(again.records) <= len(page.records):
                raise self._fetcher.endless("one document has more rows than a page holds", page.number)
            if whole and list(map(bytes, again.records)) == list(map(bytes, page.records[:whole])):
                return again
            page = again
        return page

    def _single(self, pages: PageQueue, part: Pass) -> None:
        pages.fetch(lambda: self._fetcher.fetch(self._params(part)))

    def _params(self, part: Pass, **own: str) -> Params:
        return tuple({**self.source.params, **part.params, **own}.items())

    def _batch(self, page: Page, reader: RecordReader, total: int | None, known: DistinctIds | None) -> Batch:
        """The page's rows. `known`: ids that are no news to this walk; all ids so far when not given."""
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
        self.short_pages += page.track.is_short and bool(page.records)
        page.track.is_short = page.is_short
        if known is not None:
            again = known.add(ids)
        self._raise_if_stale(page, bool(len(again) < len(ids) or rejects))
        return Batch(page.number, rows, rejects, total)

    def _raise_if_stale(self, page: Page, has_news: bool) -> None:
        if not page.records and not page.next:
            return
        track = page.track
        track.stale = 0 if has_news or page.moved else track.stale + 1
        # Windows overlap by a millisecond, which may hold any number of records.
        allowed = _MAX_PAGES_WITHOUT_NEWS + (self.seen // len(page.records) if page.is_tie else 0)
        if track.stale > allowed:
            raise self._fetcher.endless("page after page holds only records that were read before", page.number)


@dataclass(frozen=True)
class _Cases:
    """Case API v2: sorted by `indexed_on`, then id. `indexed_on.gt`, because HQ's cursor carries an `indexed_on.gte` of its own
    that would collide with ours."""

    base: Params
    until: datetime | None
    follows_links = True

    def params(self, at: int | None, high: int | None, size: int, offset: int = 0) -> Params:
        end = from_millisecond(high) + _WHOLE_MILLISECOND if high is not None else self.until
        return (
            *self.base,
            ("limit", str(size)),
            *((("indexed_on.gt", _with_zone(from_millisecond(at - 1))),) if at is not None else ()),
            *((("indexed_on.lte", _with_zone(end)),) if end is not None else ()),
        )


@dataclass(frozen=True)
class _Forms:
    """The form list: sorted by `indexed_on` in no certain order within a millisecond; both bounds belong to the range."""

    base: Params
    until: datetime | None
    follows_links = False

    def params(self, at: int | None, high: int | None, size: int, offset: int = 0) -> Params:
        end = from_millisecond(high) + _WHOLE_MILLISECOND if high is not None else self.until
        return (
            *self.base,
            ("limit", str(size)),
            ("order_by", "indexed_on"),
            *((("indexed_on_start", _without_zone(from_millisecond(at))),) if at is not None else ()),
            *((("indexed_on_end", _without_zone(end)),) if end is not None else ()),
            *((("offset", str(offset)),) if offset else ()),
        )


class _UcrRow(msgspec.Struct):
    doc_id: Any = None
    repeat_iteration: Any = None


def _rows_of_whole_documents(page: Page) -> int:
    """How many rows stand before the document that a full page may have cut: all of them where documents have one row each."""
    rows = page.records
    if not rows or len(rows) < min(page.limit or page.asked, page.asked):
        return len(rows)
    try:
        last = _ucr_row(rows[-1])
        place = len(rows) - 1
        while place and _ucr_row(rows[place - 1]).doc_id == last.doc_id:
            place -= 1
    except msgspec.DecodeError:
        return len(rows)
    is_alone = place == len(rows) - 1 and last.repeat_iteration is None
    return len(rows) if is_alone else place


_ucr_row = msgspec.json.Decoder(_UcrRow).decode


def _on(track: Track, page: Page) -> Page:
    page.track = track
    return page


def _with_zone(moment: datetime) -> str:
    return _without_zone(moment) + "Z"


def _without_zone(moment: datetime) -> str:
    """The form API answers 400 to dates with a zone; it means UTC."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
