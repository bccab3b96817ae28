"""What a step yields, and how a record of the contract becomes its metadata: texts for people as Markdown, times as times,
runs as links, lists and objects as JSON."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from explorer.contract.records import Markdown, Record, RunId

# What a step that materializes assets yields.
Event = dg.MaterializeResult | dg.AssetCheckResult  # type: ignore[type-arg]


def as_metadata(record: Record) -> dict[str, Any]:
    """Label to value, as `AssetObservation`, `MaterializeResult`, `AssetCheckResult` and `Failure` take it."""
    return {label: _typed(value) for label, value in record.to_metadata().items()}


def _typed(value: Any) -> Any:
    if isinstance(value, Markdown):
        return dg.MetadataValue.md(str(value))
    if isinstance(value, RunId):
        return dg.MetadataValue.dagster_run(str(value))
    if isinstance(value, datetime):
        return dg.MetadataValue.timestamp(value)
    # Exact types, not subclasses: Dagster's own objects are tuples.
    return dg.MetadataValue.json(value) if type(value) in (list, dict) else value


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with one line per row."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def inert(text: str) -> str:
    """A text that somebody typed, as code: Markdown has no effect in it."""
    plain = text.replace("`", "'").replace("|", "/").replace("\n", " ")
    return f"`{plain}`"
