"""What is the value of a record's field in a typed column?"""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

Key = str | bool | int | datetime

# The JSON type that a column's value normally has. Other values are converted one by one.
JSON_TYPES: dict[str, Any] = {
    "text": str | None,
    "boolean": bool | None,
    "bigint": Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None,
    "timestamp": Annotated[datetime, msgspec.Meta(tz=True)] | None,
}


def typed_key(value: Any, kind: str) -> Key | None:
    """`value` as a value of `kind`; None if it is none. A timestamp without a zone is UTC."""
    match kind:
        case "boolean":
            if isinstance(value, bool):
                return value
            return {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else None
        case "bigint":
            return _bigint(value)
        case "text":
            return _text(value)
        case _:
            return _instant(value)


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else None


def _bigint(value: Any) -> int | None:
    try:
        number = int(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
    except ValueError:
        return None
    return number if number is not None and -(2**63) <= number < 2**63 else None


def _instant(value: Any) -> datetime | None:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        return None
