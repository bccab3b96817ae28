"""Why a step failed: metadata of its failure."""

from typing import Any

from explorer.contract.records import Record


class Failure(Record, frozen=True, kw_only=True):
    """An `ExplorerError`. If the whole run is tried again later: when (ISO time), and which attempt it will be."""

    code: str | None = None
    next_step: str | None = None
    details: dict[str, Any] | None = None
    retry_at: str | None = None
    retry_number: int | None = None
