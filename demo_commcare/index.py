"""Stores documents and lists them in order, after the delay of a search index.

CommCare HQ lists from a search index that follows the primary store with a delay. `DocumentIndex` keeps both: `get` reads the
primary store, `select` the index. Instants compare in milliseconds; equal ones are ordered by id. Each resource
defines its own filters.
"""

import json
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Generic, TypeVar, cast

import msgspec

from demo_commcare.bulk import BLOCK_BITS, PERIOD, BulkHistory
from demo_commcare.clock import Clock
from demo_commcare.records import CaseRecord, FormRecord, json_bytes

Record = TypeVar("Record", CaseRecord, FormRecord)
Json = dict[str, Any]
Key = tuple[int, str]
Range = tuple[int | None, int | None]
_BLOCK = 1 << BLOCK_BITS
_SELECTIONS_KEPT = 32
_TEXTS_KEPT = 200_000


class BulkView(Generic[Record]):
    """One side (cases or forms) of a bulk history: identity, instants per field, rendering."""

    def __init__(
        self,
        bulk: BulkHistory,
        fields: Mapping[str, Callable[[int], int]],
        doc_id: Callable[[int], str],
        number: Callable[[str], int | None],
        record: Callable[[int], Record],
        render: Callable[[Sequence[int], str], bytes],
    ) -> None:
        self.bulk, self.fields = bulk, fields
        self.doc_id, self.number = doc_id, number
        self.record: Callable[[int], Record] = record
        self.render = render


@dataclass
class Query(Generic[Record]):
    """A list request. `name` identifies the query without its ranges; `matches` decides on a record (None: all);
    `ranges` are inclusive bounds in ms per instant field; `residues` the numbers modulo PERIOD of bulk documents that can match;
    `slow` says that these must be checked one by one."""

    name: str
    matches: Callable[[Record], bool] | None
    ranges: dict[str, Range] = field(default_factory=dict)
    residues: tuple[int, ...] = tuple(range(PERIOD))
    slow: bool = False


class _Numbers(Sequence[int]):
    """Sorted numbers of matching bulk documents, computed on demand."""

    def __init__(self, span: range, residues: tuple[int, ...], skipped: Iterable[int]) -> None:
        self._residues = residues
        self._first = self._below(span.start)
        self._last = self._below(span.stop)
        positions = sorted(self._below(n) - self._first for n in skipped if n in span and n % PERIOD in residues)
        self._holes = [position - place for place, position in enumerate(positions)]

    def _below(self, number: int) -> int:
        rounds, rest = divmod(number, PERIOD)
        return rounds * len(self._residues) + bisect_left(self._residues, rest)

    def __len__(self) -> int:
        return self._last - self._first - len(self._holes)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return self._between(*place.indices(len(self))[:2])
        if place < 0:
            place += len(self)
        if not 0 <= place < len(self):
            raise IndexError(place)
        return self._at(place)

    def _between(self, start: int, stop: int) -> list[int]:
        found: list[int] = []
        shift = bisect_right(self._holes, start)
        while start < stop:
            reach = min(stop, self._holes[shift]) if shift < len(self._holes) else stop
            run = range(self._first + start + shift, self._first + reach + shift)
            if len(self._residues) == PERIOD:
                found += run
            else:
                size = len(self._residues)
                found += [position // size * PERIOD + self._residues[position % size] for position in run]
            start = reach
            shift = bisect_right(self._holes, start)
        return found

    def _at(self, place: int) -> int:
        rounds, rest = divmod(self._first + place + bisect_right(self._holes, place), len(self._residues))
        return rounds * PERIOD + self._residues[rest]


class Selection(Generic[Record]):
    """The ordered result of a query: two sorted sequences (records and bulk numbers) read as one."""

    def __init__(
        self, records: list[Record], order: str, numbers: Sequence[int], view: BulkView[Record] | None
    ) -> None:
        self._records: list[Record] = records
        self._view: BulkView[Record] | None = view
        self._order, self._numbers = order, numbers
        self._last_bulk_key = self.key(numbers[-1]) if len(numbers) else None

    def __len__(self) -> int:
        return len(self._records) + len(self._numbers)

    def rank_after(self, key: Key) -> int:
        """The number of documents at or before `key`."""
        return bisect_right(self._records, key, key=self.key) + self._bulk_rank(key, after=True)

    def page(self, offset: int, limit: int, descending: bool = False) -> list[Record | int]:
        """Up to `limit` documents; a bulk document is given by its number."""
        if descending:
            stop = max(0, len(self) - offset)
            return self.page(max(0, stop - limit), stop - max(0, stop - limit))[::-1]
        chosen: list[Record | int] = []
        place = bisect_left(range(len(self._records)), offset, key=self._place)
        position, stop = offset, min(offset + limit, len(self))
        while position < stop:
            if position - place == len(self._numbers):
                return chosen + self._records[place : place + stop - position]
            reach = min(stop, self._place(place)) if place < len(self._records) else stop
            if position < reach:
                chosen += self._numbers[position - place : reach - place]
            if reach < stop:
                chosen.append(self._records[place])
                place += 1
                reach += 1
            position = reach
        return chosen

    def key(self, document: Record | int) -> Key:
        if isinstance(document, int):
            if self._view is None:
                raise LookupError(document)
            return self._view.fields[self._order](document), self._view.doc_id(document)
        return record_key(document, self._order)

    def _place(self, number: int) -> int:
        """The position of record `number` among all documents."""
        return number + self._bulk_rank(self.key(self._records[number]))

    def _bulk_rank(self, key: Key, after: bool = False) -> int:
        if self._last_bulk_key is None:
            return 0
        if self._last_bulk_key < key:
            return len(self._numbers)
        return (bisect_right if after else bisect_left)(self._numbers, key, key=self.key)


def record_key(record: CaseRecord | FormRecord, order: str) -> Key:
    """Sort key by an instant field such as `indexed_us`, in the index's resolution."""
    return getattr(record, order) // 1000, record.doc_id


class DocumentIndex(Generic[Record]):
    """Primary store and search index of one kind of document of one project space."""

    def __init__(self, clock: Clock, view: BulkView[Record] | None = None) -> None:
        self._clock = clock
        self.view: BulkView[Record] | None = view
        self.lag_s = 0.0
        self._primary: dict[str, Record | None] = {}
        self._visible: dict[str, Record] = {}
        self._pending: list[tuple[float, str]] = []
        self._left_bulk: set[int] = set()
        self._sorted: dict[str, list[Record]] = {}
        self._texts: dict[tuple[str, str], tuple[Record, bytes]] = {}
        self._selections: dict[tuple[Any, ...], Selection[Record]] = {}
        self._slow_answers: dict[str, list[int]] = {}

    def load(self, records: Iterable[Record]) -> None:
        """Add documents that are already indexed, with their own index instant."""
        for record in records:
            self._primary[record.doc_id] = self._visible[record.doc_id] = record
        self._forget_orders()

    def get(self, doc_id: str) -> Record | None:
        """The document in the primary store."""
        if doc_id in self._primary:
            return self._primary[doc_id]
        number = self.view.number(doc_id) if self.view else None
        return None if number is None or self.view is None else self.view.record(number)

    def record(self, document: Record | int) -> Record:
        """The record of a selected document."""
        if not isinstance(document, int):
            return document
        if self.view is None:
            raise LookupError(document)
        return self.view.record(document)

    def render(self, documents: Sequence[Record | int], root: str) -> list[bytes]:
        """The JSON texts of selected documents, each after a comma; a bulk history is rendered block by block."""
        texts: list[bytes] = []
        for run in _runs(documents):
            if self.view is not None and isinstance(run[0], int):
                texts.append(self.view.render(cast("list[int]", run), root))
            else:
                texts += [self._text(self.record(document), root) for document in run]
        return texts

    def _text(self, record: Record, root: str) -> bytes:
        record_known, text = self._texts.get((record.doc_id, root), (None, b""))
        if record_known is not record:
            if len(self._texts) >= _TEXTS_KEPT:
                self._texts.clear()
            text = b"," + json_bytes(record.api(root))
            self._texts[record.doc_id, root] = record, text
        return text

    def put(self, record: Record) -> None:
        """Store a document now and index it after the lag."""
        self._primary[record.doc_id] = record
        self._schedule(record.doc_id)

    def remove(self, doc_id: str) -> None:
        self._primary[doc_id] = None
        self._schedule(doc_id)

    def objects(self) -> Iterator[Json]:
        """Every document of the primary store in the API's shape, with relative addresses; the caller may change the values."""
        if self.view is not None:
            for number in range(self.view.bulk.count):
                if self.view.doc_id(number) not in self._primary:
                    yield msgspec.json.decode(self.view.render([number], "")[1:])
        yield from (json.loads(json_bytes(record.api())) for record in self._primary.values() if record)

    def count(self) -> int:
        """The number of documents in the primary store."""
        bulk = self.view.bulk.count if self.view else 0
        replaced = sum(1 for doc_id in self._primary if self.view and self.view.number(doc_id) is not None)
        return bulk - replaced + sum(1 for record in self._primary.values() if record is not None)

    def settle(self, everything: bool = False) -> None:
        """Index the changes that are due, or all waiting changes."""
        now = time.monotonic()
        due = [doc_id for at, doc_id in self._pending if everything or at <= now]
        if not due:
            return
        self._pending = [] if everything else [entry for entry in self._pending if entry[0] > now]
        for doc_id in due:
            self._index(doc_id)

    def reindex(self, instant_us: int | None = None) -> None:
        """Give every record a new index instant, in the present order, or give all the same one (bulk documents have their
        history's)."""
        self.settle(everything=True)
        for record in list(self._ordered("indexed_us")):
            self._index(record.doc_id, instant_us)
        self._forget_orders()

    def select(self, query: Query[Record], order: str) -> Selection[Record]:
        """The indexed documents that match, ordered by an instant field."""
        self.settle()
        question = (query.name, order, *sorted(query.ranges.items()))
        if question not in self._selections:
            if len(self._selections) >= _SELECTIONS_KEPT:
                self._selections.clear()
            records = self._matching(query, order)
            self._selections[question] = Selection(records, order, self._bulk_numbers(query), self.view)
        return self._selections[question]

    def _matching(self, query: Query[Record], order: str) -> list[Record]:
        ordered = self._ordered(order)
        low, high = query.ranges.get(order, (None, None))
        start = 0 if low is None else bisect_left(ordered, low, key=lambda record: getattr(record, order) // 1000)
        stop = (
            len(ordered)
            if high is None
            else bisect_right(ordered, high, key=lambda record: getattr(record, order) // 1000)
        )
        matches = query.matches
        others = [(name, bounds) for name, bounds in query.ranges.items() if name != order]
        if matches is None and not others:
            return ordered[start:stop]
        return [
            record
            for record in ordered[start:stop]
            if (matches is None or matches(record))
            and all(_within(getattr(record, name), bound) for name, bound in others)
        ]

    def _bulk_numbers(self, query: Query[Record]) -> Sequence[int]:
        view = self.view
        if view is None or not query.residues:
            return ()
        span = range(view.bulk.count)
        for name, (low, high) in query.ranges.items():
            if name not in view.fields:
                return ()
            part = view.bulk.numbers_between(view.fields[name], low, high)
            span = range(max(span.start, part.start), max(span.start, part.start, min(span.stop, part.stop)))
        if not query.slow:
            return _Numbers(span, query.residues, self._left_bulk)
        if query.name not in self._slow_answers:
            numbers = _Numbers(range(view.bulk.count), query.residues, ())
            self._slow_answers[query.name] = [n for n in numbers if query.matches and query.matches(view.record(n))]
        return [n for n in self._slow_answers[query.name] if n in span and n not in self._left_bulk]

    def _forget_orders(self) -> None:
        self._sorted.clear()
        self._selections.clear()

    def _ordered(self, order: str) -> list[Record]:
        if order not in self._sorted:
            self._sorted[order] = sorted(self._visible.values(), key=lambda record: record_key(record, order))
        return self._sorted[order]

    def _schedule(self, doc_id: str) -> None:
        if self.lag_s <= 0:
            self._index(doc_id)
        else:
            self._pending.append((time.monotonic() + self.lag_s, doc_id))

    def _index(self, doc_id: str, instant_us: int | None = None) -> None:
        self._forget_orders()
        number = self.view.number(doc_id) if self.view else None
        if number is not None:
            self._left_bulk.add(number)
        record = self._primary.get(doc_id)
        if record is None:
            self._visible.pop(doc_id, None)
            return
        fresh = replace(record, indexed_us=self._clock.now_us() if instant_us is None else instant_us)
        self._primary[doc_id] = self._visible[doc_id] = fresh


def _runs(documents: Sequence[Record | int]) -> Iterator[Sequence[Record | int]]:
    """Neighbours that can be rendered together: records, or bulk numbers of one block."""
    start = 0
    if set(map(type, documents)) == {int}:
        numbers = cast("Sequence[int]", documents)
        # Most of a long page are consecutive numbers that fill their block to its end.
        while start < len(numbers):
            stop = start + _BLOCK - numbers[start] % _BLOCK
            if stop > len(numbers) or numbers[stop - 1] != numbers[start] + stop - start - 1:
                break
            yield documents[start:stop]
            start = stop
    for _, group in groupby(documents[start:], _block):
        yield list(group)


def _block(document: CaseRecord | FormRecord | int) -> int | None:
    return document >> BLOCK_BITS if isinstance(document, int) else None


def _within(instant_us: int | None, bounds: Range) -> bool:
    if instant_us is None:
        return False
    low, high = bounds
    instant_ms = instant_us // 1000
    return (low is None or instant_ms >= low) and (high is None or instant_ms <= high)
