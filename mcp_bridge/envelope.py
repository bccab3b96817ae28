"""What every answer of the bridge looks like: one envelope, as structured content and, with the same facts, as compact text.

Success is `success, data, tenant, schema, warnings, timing_ms`; failure `success=false, error{code, message, next_step}`.
Also the few ways of writing that all answers share: instants with their age, bounded pages, likely names.
"""

import difflib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import mcp_types as types

from explorer_dagster.errors import ExplorerError

# 8,000 tokens at a cautious 3.5 characters each, less room for the envelope itself; see `weight`.
MAX_ANSWER_CHARS = 26_000
# Beyond Latin letters a token is one to two characters.
_WEIGHT_OF_OTHERS = 3
MAX_ALLOWED_VALUES = 10

T = TypeVar("T")


class InvalidArgument(ExplorerError):
    """An argument has a value that the tool cannot use."""

    code = "invalid_argument"


class InvalidCursor(ExplorerError):
    """A cursor was not one that this tool gave for these arguments."""

    code = "invalid_cursor"


@dataclass
class Answer:
    """What a tool found: `data` for the caller, warnings in plain words, facts for the audit trail (never literals)."""

    data: dict[str, Any]
    warnings: list[str] = field(default_factory=list)
    schema: str | None = None
    audit: dict[str, Any] = field(default_factory=dict)


def success(answer: Answer, tenant: str | None, timing_ms: int) -> types.CallToolResult:
    """The result of a call that did what it was asked."""
    envelope = {
        "success": True,
        "data": answer.data,
        "tenant": tenant,
        "schema": answer.schema,
        "warnings": answer.warnings,
        "timing_ms": timing_ms,
    }
    return _result(envelope, is_error=False)


def failure(error: ExplorerError, tenant: str | None, timing_ms: int) -> types.CallToolResult:
    """The result of a call that was refused or failed; `details` stay inside `error`."""
    envelope = {
        "success": False,
        "error": error.as_dict(),
        "tenant": tenant,
        "schema": None,
        "warnings": [],
        "timing_ms": timing_ms,
    }
    return _result(envelope, is_error=True)


def _result(envelope: dict[str, Any], *, is_error: bool) -> types.CallToolResult:
    text = compact_json(envelope)
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=text)], structured_content=json.loads(text), is_error=is_error
    )


def compact_json(value: Any) -> str:
    """JSON without spaces; what JSON has no form for is written as text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def weight(value: Any) -> int:
    """How much of a budget of characters the value takes as compact JSON; others than ASCII count as three."""
    text = compact_json(value)
    return len(text) if text.isascii() else sum(1 if char.isascii() else _WEIGHT_OF_OTHERS for char in text)


def iso(moment: datetime | None) -> str | None:
    """ISO-8601 in UTC, to the second."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if moment else None


def age_s(moment: datetime | None) -> int | None:
    """Whole seconds since `moment`; never negative, clocks differ."""
    return max(0, round((datetime.now(UTC) - moment).total_seconds())) if moment else None


def without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    """The row less its empty fields: absent says the same in fewer tokens."""
    return {key: value for key, value in row.items() if value is not None and value != [] and value != ""}


def page_after(
    items: Sequence[T], cursor: str | None, limit: int, name: Callable[[T], str]
) -> tuple[list[T], str | None]:
    """The next `limit` of name-sorted items, and the cursor to go on from (None at the end).

    The cursor is the last name given, so that pages stay right when items come and go in between.
    """
    rest = [item for item in items if cursor is None or name(item) > cursor]
    page = rest[:limit]
    return page, name(page[-1]) if len(rest) > len(page) else None


def fit(rows: Iterable[T], max_chars: int) -> list[T]:
    """As many rows as fit the budget when written as compact JSON; at least one, so that paging always advances."""
    taken: list[T] = []
    used = 0
    for row in rows:
        used += weight(row) + 1
        if taken and used > max_chars:
            break
        taken.append(row)
    return taken


def did_you_mean(name: str, known: Iterable[str]) -> list[str]:
    """Up to three known names that look like `name`, best first."""
    lowered = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.5)
    return [lowered[match] for match in close]


def unknown_name(
    error: type[ExplorerError], what: str, name: str, known: Sequence[str], list_tool: str
) -> ExplorerError:
    """The error for a name that is not among `known`: the nearest ones, else the first ten, and where to see all."""
    near = did_you_mean(name, known)
    details = {"did_you_mean": near} if near else {"allowed": sorted(known)[:MAX_ALLOWED_VALUES]}
    hint = f"Did you mean {near[0]}? " if near else ""
    return error(f"There is no {what} {name[:80]!r}.", next_step=f"{hint}{list_tool} shows them all.", details=details)
