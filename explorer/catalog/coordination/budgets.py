"""How much was used in a window of time? Counts by key, shared by all processes; nothing here knows what they count.

A window begins with its first use and ends `window_s` later, by the database's clock. A crash of the server opens all windows
anew.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Self

from sqlalchemy import delete, func, select, text

from explorer.catalog.storage.database import Database
from explorer.catalog.storage.tables import usage

_SPEND = text("SELECT catalog.spend(CAST(:given AS jsonb))")


@dataclass(frozen=True)
class Amounts:
    """What something costs, or may cost."""

    calls: int = 0
    rows: int = 0
    bytes: int = 0
    ms: int = 0

    def __add__(self, other: "Amounts") -> "Amounts":
        return Amounts(self.calls + other.calls, self.rows + other.rows, self.bytes + other.bytes, self.ms + other.ms)


@dataclass(frozen=True)
class Spent:
    """Something that was used of the window of `key`."""

    key: str
    window_s: int
    amounts: Amounts

    def as_object(self) -> dict[str, Any]:
        """An element of the argument of `catalog.spend`."""
        return {"key": self.key, "window_s": self.window_s, **asdict(self.amounts)}


@dataclass(frozen=True)
class Used:
    """What is used of a window, and the seconds until it ends; all zero when none is open."""

    amounts: Amounts = Amounts()
    left_s: float = 0.0

    @classmethod
    def from_object(cls, found: dict[str, Any]) -> Self:
        """From an element of the result of `catalog.spend`."""
        return cls(Amounts(found["calls"], found["rows"], found["bytes"], found["ms"]), float(found["left_s"]))


class UsageStore:
    """The windows of all keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def spend(self, spent: Iterable[Spent]) -> dict[tuple[str, int], Used]:
        """Add to the windows, all in one step. Returns what is used now, by key and window."""
        given = [each.as_object() for each in spent]
        with self._database.single() as connection:
            found = connection.scalar(_SPEND, {"given": json.dumps(given)})
        return {(each["key"], each["window_s"]): Used.from_object(each) for each in found}

    def used(self, key: str, window_s: int) -> Used:
        """What is used of a window now."""
        left = func.extract("epoch", usage.c.ends_at - func.now())
        query = select(usage.c.calls, usage.c.rows, usage.c.bytes, usage.c.ms, left.label("left_s")).where(
            usage.c.key == key, usage.c.window_s == window_s, usage.c.ends_at > func.now()
        )
        with self._database.single() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return Used.from_object(dict(row)) if row is not None else Used()

    def forget(self, key: str) -> None:
        """Open the windows of `key` anew."""
        with self._database.single() as connection:
            connection.execute(delete(usage).where(usage.c.key == key))

    def forget_ended(self) -> None:
        """Delete the windows that have ended."""
        with self._database.single() as connection:
            connection.execute(delete(usage).where(usage.c.ends_at < func.now()))
