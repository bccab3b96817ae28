"""What does a raw table get from one load?"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from explorer.extract.proof import Proof
from explorer.load.raw.rejects import RejectFile
from explorer.load.raw.rows import PackedRow
from explorer.load.raw.statements import Connection


@dataclass(frozen=True)
class ExtractEnd:
    """What is known once all rows came. `whole`: everything was read, so that rows of the table that did not come may be gone at
    the source; `repeated`: ids of which there are several rows."""

    cursor: datetime | None
    whole: bool
    repeated: Collection[str] = ()


@dataclass(frozen=True)
class ParentRows:
    """Records of `table` (its key `key`) that own the rows here, by their `column`. `read`: those whose rows were read."""

    table: str
    key: str
    column: str
    read: Collection[str]


@dataclass(frozen=True)
class LoadInput:
    """What a table gets: `chunks` of rows, then `end()`; `rejects` of the same extract are written with them.

    `may_be_whole`: the end may say that everything was read; `proof` then tells which rows of the table that did not come are
    gone. `connect`: opens a second session, for many chunks. `parents()`, at the end: rows of parents that were not read go with
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
    """What a load did to a table. `changed`: rows with other content than before, or that came back; `deleted`: marked as gone;
    `live`: rows afterwards, without those marked."""

    new: int = 0
    changed: int = 0
    deleted: int = 0
    live: int = 0
