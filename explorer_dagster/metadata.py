"""What a step yields, and how a record of the contract becomes its metadata: texts for people as Markdown, lists and objects as
JSON."""

from typing import Any

import dagster as dg

from explorer.contract.records import Markdown, Record

# What a step that materializes assets yields.
Event = dg.MaterializeResult | dg.AssetCheckResult  # type: ignore[type-arg]


def as_metadata(record: Record) -> dict[str, Any]:
    """Label to value, as `AssetObservation`, `MaterializeResult`, `AssetCheckResult` and `Failure` take it."""
    return {label: _typed(value) for label, value in record.to_metadata().items()}


def _typed(value: Any) -> Any:
    if isinstance(value, Markdown):
        return dg.MetadataValue.md(str(value))
    # Not subclasses: Dagster's own objects are tuples.
    return dg.MetadataValue.json(value) if type(value) in (list, dict) else value
