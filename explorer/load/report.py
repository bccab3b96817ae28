"""What a load says about itself: progress while it runs, and per resource what was loaded, from where to where, at which cost."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# More than a pipeline has resources: the cause of each is told, shorter where there are many.
_NAMED = 12
_ROOM_CHARS = 1700
_MAX_CAUSE_CHARS = 250


@dataclass(frozen=True)
class LoadProgress:
    """How far the extract of `resource` is. `rows`: distinct records so far; `expected`: the server's count, if it gives one."""

    resource: str
    rows: int
    pages: int
    expected: int | None


@dataclass
class ResourceReport:
    """One resource of a load.

    `status`: `skipped` when plan or role do not allow the resource (`skipped_reason`), `failed` when it ended in `error`
    (`ExplorerError.as_dict()`); in both cases its table is as it was. `rows_landed`: distinct records that this load read;
    `rows_new`, `rows_changed` (other content, or there again), `rows_deleted` (marked as gone): what they did to the table, all
    0 when nothing was written; `rows_total`: rows of the table afterwards, without those marked as deleted; `api_total`: the
    server's count when the whole resource was read, else None; `window_total`: its count of what was asked for. `rejected`:
    records set aside, `rejected_reasons` says why; `repaired`: characters and key values that Postgres cannot
    hold and that were replaced. `cursor_from`, `cursor_to`: ISO instants, None without cursor. `complete`: every
    record could be read, and at least as many were seen as the server counts. `rows_missing`: rows that stay though a whole read
    did not bring them; of `rows_unproven` of them it is not known whether they are gone, for `missing_reason`; the others are
    there when they are asked for. `duration_s`: from the load's begin until
    this resource was done.
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


@dataclass(frozen=True)
class LoadReport:
    """All resources of one load by name, in the order in which they were asked for."""

    resources: dict[str, ResourceReport]


def name_failures(errors: Mapping[str, Mapping[str, Any]]) -> str:
    """All failures in one text, each resource with its cause (`ExplorerError.as_dict()`), of very many the last ones by name
    only. Resources that failed for one and the same reason stand together."""
    by_cause: dict[str, list[str]] = {}
    for name, error in errors.items():
        message = str(error.get("message") or "no reason was given")
        # Most messages begin with the resource, which is named here anyway.
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
