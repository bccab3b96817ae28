"""What does PostgreSQL know of the values in a table's columns? From the ANALYZE at the end of its build; no row is read.

Up to `SAMPLE_ROWS` rows ANALYZE reads all of them. Of larger tables it reads a sample, and the statistics are approximate.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from mcp_bridge.clients.loader_connections import Connection
from mcp_bridge.facts.relations import Relation

# 300 rows for each of the 100 entries of default_statistics_target.
SAMPLE_ROWS = 30_000
_MAX_VALUE_CHARS = 60
_MAX_COMMON = 10

# pg_stats is a security barrier view. Only comparisons with constants reach its tables; a join would read all of them.
_STATISTICS = """
SELECT attname::text, null_frac::float8, n_distinct::float8,
       coalesce(most_common_elems, most_common_vals)::text::text[],
       CASE WHEN most_common_elems IS NULL THEN most_common_freqs ELSE most_common_elem_freqs END::float8[],
       histogram_bounds::text::text[]
  FROM pg_stats WHERE schemaname = %s AND tablename = %s
"""
_DATES = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True)
class ColumnStatistics:
    """`null_share` and frequencies: 0..1. `common`: values (for arrays, elements) with their frequency, most common first;
    `least`, `greatest`: only for numbers, dates and times."""

    null_share: float
    distinct: int | None
    least: str | None = None
    greatest: str | None = None
    common: tuple[tuple[str, float], ...] = ()


def statistics_of(connection: Connection, relation: Relation, types: dict[str, str]) -> dict[str, ColumnStatistics]:
    """Statistics by column name; empty for views and for tables without ANALYZE. `types`: the columns' SQL types. Blocks."""
    found = {}
    for name, null_share, distinct, values, shares, bounds in connection.execute(
        _STATISTICS, [relation.schema, relation.name]
    ):
        common = list(zip(values or (), shares or (), strict=False))
        ends = [value for value, _ in common] + [*(bounds or ())][:1] + [*(bounds or ())][-1:]
        least, greatest = _ends(ends, types.get(name, ""))
        common_first = sorted(common, key=lambda pair: -pair[1])[:_MAX_COMMON]
        found[name] = ColumnStatistics(
            null_share=round(null_share, 3),
            distinct=_count(distinct, relation.estimate),
            least=least,
            greatest=greatest,
            common=tuple((_cut(value), round(share, 3)) for value, share in common_first),
        )
    return found


def _count(distinct: float, rows: int | None) -> int | None:
    """The number of distinct values. PostgreSQL gives this number, or minus its share of the rows, or 0 when unknown."""
    if distinct == 0 or (distinct < 0 and rows is None):
        return None
    return round(distinct) if distinct > 0 else round(-distinct * (rows or 0))


def _ends(values: Iterable[str], type_: str) -> tuple[str | None, str | None]:
    key = _order(type_)
    if key is None:
        return None, None
    try:
        ordered = sorted((value for value in values if value is not None), key=key)
    except (InvalidOperation, ValueError):
        return None, None
    return (_plain(ordered[0], type_), _plain(ordered[-1], type_)) if ordered else (None, None)


def _plain(value: str, type_: str) -> str:
    """A numeric without the trailing zeros that a division leaves."""
    return value.rstrip("0").rstrip(".") if type_.startswith("numeric") and "." in value else value


def _order(type_: str) -> Callable[[str], Any] | None:
    """The sort key for values as PostgreSQL writes them; None for types without a useful order."""
    base = type_.partition("(")[0]
    if base in ("smallint", "integer", "bigint", "real", "double precision", "numeric"):
        return Decimal
    if base in ("date", "timestamp", "timestamptz"):
        return _day
    return str if base == "time" else None


def _day(text: str) -> str:
    # Years before Christ and years of five digits do not sort as text.
    if not _DATES.match(text) or text.endswith("BC"):
        raise ValueError(text)
    return text


def _cut(value: str) -> str:
    return value if len(value) <= _MAX_VALUE_CHARS else f"{value[: _MAX_VALUE_CHARS - 3]}..."
