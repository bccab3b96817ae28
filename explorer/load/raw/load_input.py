"""What does a load write into a raw table?"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from explorer.extract.proof import Proof
from explorer.load.raw.rejects import RejectFile
from explorer.load.raw.rows import PackedRow
from explorer.postgres.connections import Connection


@dataclass(frozen=True)
class ExtractEnd:
    """What is known after the last row. `whole`: everything was read, so missing rows may be gone upstream; `repeated`: ids with
    several rows."""

    cursor: datetime | None
    whole: bool
    repeated: Collection[str] = ()


@dataclass(frozen=True)
class ParentRows:
    """Records of `table` (with key `key`) that own the rows here, by their `column`. `read`: those whose rows were read."""

    table: str
    key: str
    column: str
    read: Collection[str]


@dataclass(frozen=True)
class LoadInput:
    """The content for a table: `chunks` of rows, then `end()`; `rejects` of the same extract are written too.

    `may_be_whole`: the end may say that everything was read; `proof` then finds out which missing rows are gone. `connect`:
    opens a second session, used for many chunks. `parents()`, at the end: rows of parents that were not read are deleted with
    their parent.
    """

    chunks: Iterable[Sequence[PackedRow]]
    end: Callable[[], ExtractEnd]
    may_be_whole: bool
    rejects: RejectFile
    run_id: str
    moment: datetime
    connect: Callable[[], Connection] | None = None
    proof: Proof | None = None
    parents: Callable[[], ParentRows | None] = lambda: None


@dataclass(frozen=True)
class RowCounts:
    """What a load did to a table. `changed`: rows with new content, or that came back; `deleted`: rows marked as deleted;
    `live`: rows afterwards, without deleted ones."""

    new: int = 0
    changed: int = 0
    deleted: int = 0
    live: int = 0
