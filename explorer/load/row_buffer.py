"""How do rows get from an extract to the database without filling memory? Each extract's thread fills a small buffer.

An extract that ends early leaves its rows in memory, one per id, so that they can be compared with the table before anything is
written; so does one whose rows wait on disk (`WaitingRows`). A longer one streams: extract and database wait for each other. An
extract waits for nothing else, so buffers cannot block each other.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from enum import Enum
from typing import Generic

from explorer.extract.extract import Batch, Extract
from explorer.load.errors import LoadFailed
from explorer.load.raw.rejects import RejectFile
from explorer.load.raw.rows import CHUNK_BYTES, AnyRow, Pack, keep_newest

MEMORY_BYTES = 4 * CHUNK_BYTES
_MAX_QUEUED_CHUNKS = 4


class BufferState(Enum):
    """`COMPLETE`: the extract ended and all its rows are in memory; `FAILED`: it failed first; `STREAMING`: it has more rows
    than the buffer keeps in memory."""

    EXTRACTING = "extracting"
    COMPLETE = "complete"
    STREAMING = "streaming"
    FAILED = "failed"


class RowBuffer(Generic[AnyRow]):
    """The rows of one extract, packed by `pack` page by page. `rows`: number so far, with repeats; `latest`: the highest cursor
    among them.

    These are called in the extract's thread: `on_batch` after each page, `on_end` at the end, and `values` at the beginning, for
    a source whose values must be found first. `collect`: columns whose values are collected for other sources.
    """

    def __init__(
        self,
        extract: Extract,
        pack: Pack[AnyRow],
        rejects: RejectFile,
        *,
        on_batch: Callable[[Batch], None],
        on_end: Callable[[], None],
        values: Callable[[], Sequence[str]] | None = None,
        collect: Iterable[str] = (),
    ) -> None:
        self.extract = extract
        self.rejects = rejects
        self.rows = 0
        self.latest: datetime | None = None
        self.error: BaseException | None = None
        self._pack = pack
        self._on_batch, self._on_end, self._values = on_batch, on_end, values
        columns = list(extract.source.keys)
        self._collected: dict[str, set[str]] = {column: set() for column in collect}
        self._collect = [(columns.index(column), values) for column, values in self._collected.items()]
        self._state = BufferState.EXTRACTING
        self._changed = threading.Condition()
        self._memory: dict[str, AnyRow] | None = {}
        self._memory_bytes = 0
        self._part: list[AnyRow] = []
        self._part_bytes = 0
        self._queue: deque[list[AnyRow]] = deque()
        self._ended = False
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name=f"extract-{extract.source.name}", daemon=True)

    def start(self, decided: Callable[[], None]) -> None:
        """Start the extract. `decided` is called once, as soon as the state is no longer `EXTRACTING`."""
        self._decided = decided
        self._thread.start()

    def wait(self) -> BufferState:
        """Wait until the state is decided, and return it."""
        with self._changed:
            self._changed.wait_for(lambda: self._state is not BufferState.EXTRACTING)
            return self._state

    def newest(self) -> dict[str, AnyRow]:
        """The newest version of each row by id. Only for a buffer that is `COMPLETE`."""
        return self._memory or {}

    def stream(self) -> Iterator[list[AnyRow]]:
        """All rows of a buffer that is `STREAMING`, about a megabyte at a time, while the extract goes on. Iterate once.

        Raises:
            ExplorerError: the extract failed; the rows so far are incomplete.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._ended or self._abandoned)
                if self.error or self._abandoned:
                    raise self.error or _stopped()
                if not self._queue:
                    return
                chunk = self._queue.popleft()
                self._changed.notify_all()
            yield chunk

    def collected(self, column: str) -> set[str]:
        """All values of a collected column, after the end of the extract.

        Raises:
            ExplorerError: the extract failed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ended)
        if self.error:
            raise self.error
        return self._collected[column]

    def abandon(self) -> None:
        """Accept no further rows: the extract ends at its next page or row."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    def join(self, timeout_s: float) -> None:
        """Wait for the extract's thread."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            if self._values:
                self.extract.values = self._values()
            with closing(self.extract.batches()) as batches:  # type: ignore[type-var]
                for batch in batches:
                    self._take(batch)
                    self._on_batch(batch)
            self._push()
        except BaseException as error:
            self.error = error
        self._on_end()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        if self._state is BufferState.EXTRACTING:
            self._decide(BufferState.FAILED if self.error else BufferState.COMPLETE)

    def _decide(self, state: BufferState) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()
        self._decided()

    def _take(self, batch: Batch) -> None:
        for reject in batch.rejects:
            self.rejects.write(self.extract.source.name, reject, batch.page)
        rows = self._pack(batch.rows, batch.page)
        self.rows += len(rows)
        cursors = [row.cursor for row in rows if row.cursor is not None]
        if cursors:
            self.latest = max(cursors) if self.latest is None else max(self.latest, *cursors)
        for position, values in self._collect:
            values.update(str(key) for row in batch.rows if (key := row.keys[position]) is not None)
        if self._memory is None:
            self._add(rows)
        else:
            self._hold(self._memory, rows)
        if self._abandoned:
            raise _stopped()

    def _hold(self, memory: dict[str, AnyRow], rows: Sequence[AnyRow]) -> None:
        keep_newest(memory, rows)
        self._memory_bytes += sum(row.size for row in rows)
        if self._memory_bytes > MEMORY_BYTES:
            self._memory = None
            self._decide(BufferState.STREAMING)
            self._add(memory.values())

    def _add(self, rows: Iterable[AnyRow]) -> None:
        for row in rows:
            self._part.append(row)
            self._part_bytes += row.size
            if self._part_bytes >= CHUNK_BYTES:
                self._push()

    def _push(self) -> None:
        if not self._part:
            return
        chunk, self._part, self._part_bytes = self._part, [], 0
        with self._changed:
            self._changed.wait_for(lambda: len(self._queue) < _MAX_QUEUED_CHUNKS or self._abandoned)
            if self._abandoned:
                raise _stopped()
            self._queue.append(chunk)
            self._changed.notify_all()


def _stopped() -> LoadFailed:
    return LoadFailed("The load was stopped.", next_step="Start it again.")
