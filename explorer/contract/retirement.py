"""How does the comment of a table or model say that its source is gone, and that it will be dropped?"""

import re
from datetime import date, timedelta
from typing import NamedTuple

RETENTION_DAYS = 90
_NOTE = re.compile(r"Retired since ([0-9]{4}-[0-9]{2}-[0-9]{2}): ")
_IT_WAS = " It was: "


class Retirement(NamedTuple):
    """`since`: the rows are those of this day; `dropped_after`: the last day on which they can be read."""

    since: date
    dropped_after: date


def retired_since(since: date) -> Retirement:
    """The retirement that begins on this day."""
    return Retirement(since, since + timedelta(days=RETENTION_DAYS))


def retirement_of(comment: str | None) -> Retirement | None:
    """What the comment says; None for a table that is not retired."""
    noted = _NOTE.match(comment or "")
    return retired_since(date.fromisoformat(noted[1])) if noted else None


def comment_of(retirement: Retirement, what: str, why: str, before: str) -> str:
    """The comment of a retired `what`, such as a table; `before`: its comment until now."""
    since, until = retirement
    return (
        f"Retired since {since}: {why}, the rows are no longer refreshed and the {what} is dropped after {until}."
        f"{_IT_WAS}{before}"
    )


def comment_before(comment: str) -> str:
    """The comment before it was retired."""
    return comment.partition(_IT_WAS)[2]
