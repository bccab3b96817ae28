"""What does a load report? Progress while it runs; then per resource what was loaded, from which to which cursor, at which
cost."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# More than a pipeline has resources. Every cause is named; with many failures the texts are shorter.
_NAMED = 12
_ROOM_CHARS = 1700
_MAX_CAUSE_CHARS = 250


@dataclass(frozen=True)
class LoadProgress:
    """Progress of the extract of `resource`. `rows`: distinct records so far; `expected`: the server's count, if it gives one."""

    resource: str
    rows: int
    pages: int
    expected: int | None


@dataclass
class ResourceReport:
    """The result of one resource.

    `status`: `skipped` when plan or role do not allow the resource (`skipped_reason`), `failed` when it ended with `error`
    (`ExplorerError.as_dict()`); in both cases its table is unchanged. `rows_landed`: distinct records that this load read.
    `rows_new`, `rows_changed` (new content, or back again), `rows_deleted` (marked as deleted): changes of the table, 0 when
    nothing was written. `rows_total`: rows afterwards, without deleted ones. `api_total`: the server's count when the whole
    resource was read, else None; `window_total`: its count of the requested part. `rejected`: number of rejected records,
    `rejected_reasons` says why; `repaired`: replaced characters and key values that Postgres cannot hold. `cursor_from`,
    `cursor_to`: ISO times, None without cursor. `complete`: every record could be read, and at least as many as the server
    counts. `rows_missing`: rows that a full extract did not return and that stay; of these `rows_unproven` may be gone, for
    `missing_reason`, and the server still has the others. `duration_s`: from the start of the load until this resource was done.
    """

    status: Literal["loaded", "skipped", "failed"] = "loaded"
    table: str = ""
    rows_landed: int = 0
    rows_new: int = 0
    rows_changed: int = 0
    rows_deleted: int = 0
    rows_total: int = 0
    rows_missing: int = 0
    rows_unproven: int = 0
    missing_reason: str | None = None
    api_total: int | None = None
    window_total: int | None = None
    rejected: int = 0
    rejected_reasons: dict[str, int] = field(default_factory=dict)
    repaired: int = 0
    pages: int = 0
    requests: int = 0
    bytes: int = 0
    cursor_from: str | None = None
    cursor_to: str | None = None
    complete: bool = True
    skipped_reason: str | None = None
    error: dict[str, Any] | None = None
    duration_s: float = 0.0

    @property
    def rows_written(self) -> int:
        """Number of rows that the load added, changed or marked."""
        return self.rows_new + self.rows_changed + self.rows_deleted


@dataclass(frozen=True)
class LoadReport:
    """All resources of one load by name, in the requested order."""

    resources: dict[str, ResourceReport]

    @property
    def has_news(self) -> bool:
        """Whether the load changed a table, or failed to read one."""
        return any(each.rows_written or each.status == "failed" for each in self.resources.values())


def name_failures(errors: Mapping[str, Mapping[str, Any]]) -> str:
    """All failures in one text, each resource with its cause (`ExplorerError.as_dict()`). Resources that failed for the same
    reason are listed together; of very many the last ones are only named."""
    by_cause: dict[str, list[str]] = {}
    for name, error in errors.items():
        message = str(error.get("message") or "no reason was given")
        # Most messages begin with the resource, which the text names already.
        by_cause.setdefault(message.removeprefix(f"{name}: ").rstrip("."), []).append(name)
    causes = list(by_cause.items())
    longest = min(_MAX_CAUSE_CHARS, _ROOM_CHARS // max(1, min(len(causes), _NAMED)))
    said = [f"{', '.join(names)}: {_cut(cause, longest)}" for cause, names in causes[:_NAMED]]
    others = [name for _, names in causes[_NAMED:] for name in names]
    if others:
        said.append(f"and {len(others)} more for other reasons: {_cut(', '.join(others), _MAX_CAUSE_CHARS)}")
    return (f"{len(errors)} resources failed. " if len(errors) > 1 else "") + "; ".join(said) + "."


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
