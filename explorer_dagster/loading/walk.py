"""Which requests read a whole resource, each record at least once, and when is the walk at its end?

A walk ends when the server has nothing further, never because a total was reached: totals are separate counts that disagree
with the data. Records may come twice (rows that move under the walk, overlapping windows); the consumer keeps the last of each
id. A walk that does not get on is an error that names resource and page. The ways of paging: docs/commcare_api.md.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from explorer_dagster.commcare import settings as constants
from explorer_dagster.commcare.client import CommCareClient
from explorer_dagster.commcare.errors import ResponseMalformed
from explorer_dagster.loading.records import Losses, RecordReader, Reject, Row, repair_text
from explorer_dagster.registry import Pass, Source

Params = tuple[tuple[str, str], ...]
# A page may repeat known rows (overlap, rows that moved, HQ's first cursor); more in a row mean that it goes in circles.
_MAX_PAGES_WITHOUT_NEWS = 5
_OFFSET_WALKS = 3


class Page(msgspec.Struct):
    """One answer: undecoded records, the link to the next page, the server's count and its own idea of the page size."""

    records: list[msgspec.Raw]
    next: str | None
    total: int | None
    limit: int | None = None


@dataclass(frozen=True)
class Batch:
    """The rows of one page. `page`: 1-based over all passes of the resource; `total`: the server's count for this pass."""

    page: int
    rows: list[Row]
    rejects: list[Reject]
    total: int | None


@dataclass
class Walk:
    """Reads one source. `since`: only records indexed after it; `until`: none indexed after it. Iterate `batches()` once.

    Afterwards `losses` and `pages` tell what was met, `api_total` the server's count over all passes (None when it gave none) and
    `seen` how many distinct records there were.
    """

    client: CommCareClient
    source: Source
    since: datetime | None = None
    until: datetime | None = None
    losses: Losses = field(default_factory=Losses)
    pages: int = 0
    api_total: int | None = None
    _ids: set[int] = field(default_factory=set)
    _stale_pages: int = 0

    @property
    def seen(self) -> int:
        return len(self._ids)

    def batches(self) -> Iterator[Batch]:
        """Every page of every pass.

        Raises:
            ResponseMalformed: an answer of another shape, a next page elsewhere, or a walk that does not get on.
            CommCareError: the server refuses or fails.
        """
        paging: dict[str, Callable[[Pass, RecordReader], Iterator[Batch]]] = {
            "cursor": self._by_cursor,
            "indexed_on": self._by_date,
            "offset": self._by_offset,
            "single": self._single,
        }
        totals: list[int | None] = []
        for part in self.source.passes:
            reader = RecordReader(self.source, part, self.losses)
            total = None
            for batch in paging[self.source.paging](part, reader):
                total = batch.total if batch.total is not None else total
                yield batch
            totals.append(total)
        known = [total for total in totals if total is not None]
        self.api_total = sum(known) if len(known) == len(totals) else None

    def _by_cursor(self, part: Pass, reader: RecordReader) -> Iterator[Batch]:
        """Case API v2: the server's own cursor until it gives none.

        `indexed_on.gt`, because HQ's cursor carries `indexed_on.gte` and would collide with one of ours.
        """
        params = self._params(part, [("limit", str(self.source.page_size))])
        field_name = self.source.cursor.field if self.source.cursor else "indexed_on"
        if self.since:
            params += ((f"{field_name}.gt", _with_zone(self.since)),)
        if self.until:
            params += ((f"{field_name}.lte", _with_zone(self.until)),)
        total, asked = None, set()
        while True:
            asked.add(params)
            page = self._fetch(params)
            # Older servers count what remains from each page on: the first page's count is the whole.
            total = page.total if total is None else total
            yield self._batch(page, reader, total)
            if not page.next:
                return
            params = self._next(page.next)
            if params in asked:
                raise self._endless("the server names a page that was read before")

    def _by_date(self, part: Pass, reader: RecordReader) -> Iterator[Batch]:
        """Forms: each request starts at the last instant seen (inclusive), sorted by it.

        The API compares instants in milliseconds and has no tie-break. When a page does not get beyond its own first
        millisecond, that millisecond alone is paged by offset, where nothing can shift, and the walk goes on behind it.
        """
        base = self._params(part, [("limit", str(self.source.page_size)), ("order_by", "indexed_on")])
        end = (("indexed_on_end", _without_zone(self.until)),) if self.until else ()
        start = _to_millisecond(self.since) if self.since else None
        total = None
        while True:
            page = self._fetch(base + ((("indexed_on_start", _without_zone(start)),) if start else ()) + end)
            total = page.total if total is None else total
            batch = self._batch(page, reader, total)
            yield batch
            if self._is_last(page):
                return
            last = max((row.cursor for row in batch.rows if row.cursor), default=None)
            if last is None:
                if not page.records:
                    return
                raise self._endless("its records carry no instant to go on from")
            last = _to_millisecond(last)
            if start is not None and last < start:
                raise self._endless("the server's records go back in time")
            if last == start:
                yield from self._one_millisecond(base, start, reader, total)
                last = start + timedelta(milliseconds=1)
            start = last

    def _one_millisecond(
        self, base: Params, instant: datetime, reader: RecordReader, total: int | None
    ) -> Iterator[Batch]:
        last_microsecond = instant + timedelta(microseconds=999)
        window = (("indexed_on_start", _without_zone(instant)), ("indexed_on_end", _without_zone(last_microsecond)))
        offset = 0
        while True:
            page = self._fetch(base + window + (("offset", str(offset)),))
            yield self._batch(page, reader, total)
            if self._is_last(page) or not page.records:
                return
            offset += len(page.records)

    def _by_offset(self, part: Pass, reader: RecordReader) -> Iterator[Batch]:
        """Tastypie lists: by offset. Some are unsorted, which skips rows: read again while fewer than counted were seen."""
        before = self.seen
        for _ in range(_OFFSET_WALKS):
            total = None
            for batch in self._offset_once(part, reader):
                total = batch.total
                yield batch
            if total is None or self.seen - before + sum(self.losses.rejected.values()) >= total:
                return

    def _offset_once(self, part: Pass, reader: RecordReader) -> Iterator[Batch]:
        base = self._params(part, [("limit", str(self.source.page_size))])
        offset, this_walk = 0, set[int]()
        while True:
            page = self._fetch(base + ((("offset", str(offset)),) if offset else ()))
            yield self._batch(page, reader, page.total, this_walk)
            if page.next:
                self._next(page.next)
            if self._is_last(page) or not page.records:
                return
            offset += len(page.records)

    def _single(self, part: Pass, reader: RecordReader) -> Iterator[Batch]:
        page = self._fetch(self._params(part, []))
        yield self._batch(page, reader, page.total)

    def _is_last(self, page: Page) -> bool:
        """A short page without a next one. A full page may have followers whatever the server's count makes it say."""
        size = min(page.limit or self.source.page_size, self.source.page_size)
        return not page.next and len(page.records) < size

    def _params(self, part: Pass, own: list[tuple[str, str]]) -> Params:
        return tuple({**self.source.params, **part.params, **dict(own)}.items())

    def _fetch(self, params: Params) -> Page:
        if self.pages >= constants.MAX_PAGES:
            raise self._endless(f"there are more than {constants.MAX_PAGES:,} pages")
        self.pages += 1

        def decode(body: bytes) -> Page:
            text, repaired = repair_text(body)
            page = _decode_page(text, self.source.collection)
            self.losses.repaired += repaired
            return page

        return self.client.get(self.source.endpoint, params, resource=self.source.name, page=self.pages, decode=decode)

    def _next(self, link: str) -> Params:
        return tuple(
            self.client.next_params(link, endpoint=self.source.endpoint, resource=self.source.name, page=self.pages)
        )

    def _batch(self, page: Page, reader: RecordReader, total: int | None, known: set[int] | None = None) -> Batch:
        """The page's rows. `known`: ids that are no news to this walk; all ids so far when not given."""
        rows: list[Row] = []
        rejects: list[Reject] = []
        known = self._ids if known is None else known
        before = len(known)
        for raw in page.records:
            record = reader.read(raw)
            if isinstance(record, Row):
                # The hash, not the text: half the memory, and a walk may pass millions of ids.
                identity = hash(record.id)
                known.add(identity)
                self._ids.add(identity)
                rows.append(record)
            else:
                rejects.append(record)
        self._stale_pages = self._stale_pages + 1 if rows and len(known) == before else 0
        if self._stale_pages > _MAX_PAGES_WITHOUT_NEWS:
            raise self._endless("page after page holds only records that were read before")
        return Batch(self.pages, rows, rejects, total)

    def _endless(self, why: str) -> ResponseMalformed:
        return ResponseMalformed(
            f"{self.source.name}: paging does not end at page {self.pages}: {why}.",
            next_step="What was loaded before is untouched. Report it to the server's operator.",
            details={"resource": self.source.name, "page": self.pages},
        )


class _Meta(msgspec.Struct):
    next: str | None = None
    total_count: int | float | None = None
    limit: int | float | None = None


class _ListEnvelope(msgspec.Struct):
    """Tastypie: `{"meta": {...}, "objects": [...]}`; a missing list is an error, never an empty page."""

    objects: list[msgspec.Raw]
    meta: _Meta | None = None


def _decode_page(body: bytes, collection: str) -> Page:
    if collection == "objects":
        answer = _objects_decoder.decode(body)
        meta = answer.meta or _Meta()
        return Page(answer.objects, meta.next, _count(meta.total_count), _count(meta.limit))
    decoder = _collection_decoder(collection)
    found = decoder.decode(body)
    return Page(found.records, found.next, _count(found.matching_records))


_objects_decoder = msgspec.json.Decoder(_ListEnvelope)
_collection_decoders: dict[str, msgspec.json.Decoder[Any]] = {}


def _collection_decoder(collection: str) -> msgspec.json.Decoder[Any]:
    """Decoder of `{collection: [...], "next": url, "matching_records": n}` (case API v2)."""
    if collection not in _collection_decoders:
        struct = msgspec.defstruct(
            "Envelope",
            [
                ("records", list[msgspec.Raw]),
                ("next", str | None, None),
                ("matching_records", int | float | None, None),
            ],
            rename={"records": collection},
        )
        _collection_decoders[collection] = msgspec.json.Decoder(struct)
    return _collection_decoders[collection]


def _count(value: float | None) -> int | None:
    return int(value) if value is not None and value >= 0 else None


def _to_millisecond(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _with_zone(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _without_zone(moment: datetime) -> str:
    """The form API answers 400 to dates with a zone; it means UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
