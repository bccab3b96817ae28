"""The limits of a query result, and one page of it."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from mcp_bridge.sql.values import JsonValue

Truncation = Literal["rows", "bytes", "time"]


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """Limits of one result. A cell above `max_cell_bytes` is cut to a preview; the other limits end the page.
    A call waits for its turn at most `wait_s`, which is not part of `timeout_s`."""

    max_rows: int = 1000
    max_bytes: int = 1_000_000
    max_cell_bytes: int = 16_384
    preview_chars: int = 500
    timeout_s: float = 15.0
    wait_s: float = 20.0

    def __post_init__(self) -> None:
        if min(self.max_rows, self.max_cell_bytes, self.preview_chars) < 1 or self.timeout_s <= 0:
            raise ValueError("limits must be positive")
        if self.max_bytes < self.max_cell_bytes:
            raise ValueError("max_bytes must hold one cell of max_cell_bytes")


class Column(NamedTuple):
    name: str
    type: str


@dataclass(frozen=True, slots=True)
class QueryResult:
    """One page. `rows` are lists in the order of `columns`; names may repeat. `truncated` names the limit that ended
    the page early.
    """

    columns: list[Column]
    rows: list[list[JsonValue]]
    row_count: int
    truncated: Truncation | None
    cells_truncated: int
    elapsed_ms: int
    offset: int = 0

    @property
    def next_offset(self) -> int | None:
        """The offset of the next page, if this one was cut."""
        return self.offset + self.row_count if self.truncated and self.row_count else None
