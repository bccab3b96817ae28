"""How often may something happen? Counts per key and window of time, shared by all processes."""

from datetime import timedelta

from sqlalchemy import case, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from explorer.catalog.storage.database import Database
from explorer.catalog.storage.tables import rates
from explorer.core.jsonb import storable

# Windows that ended longer ago are deleted.
_KEPT = timedelta(days=1)


class RateStore:
    """Windows begin with their first use and are the database's time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, key: str, limit: int, window_s: float) -> float:
        """Use `key` once. Returns 0, or the seconds until its window ends when it was used `limit` times in it already."""
        now = func.clock_timestamp()
        ends = now + timedelta(seconds=window_s)
        is_over = rates.c.window_ends <= now
        statement = (
            insert(rates)
            .values(key=storable(key), window_ends=ends, used=1)
            .on_conflict_do_update(
                index_elements=[rates.c.key],
                set_={
                    "window_ends": case((is_over, ends), else_=rates.c.window_ends),
                    "used": case((is_over, 1), else_=rates.c.used + 1),
                },
            )
            .returning(rates.c.used, func.extract("epoch", rates.c.window_ends - now).label("left_s"))
        )
        with self._database.single() as connection:
            row = connection.execute(statement).one()
            connection.execute(delete(rates).where(rates.c.window_ends < func.now() - _KEPT))
        return max(1.0, float(row.left_s)) if row.used > limit else 0.0

    def used_up(self, key: str, limit: int) -> float:
        """As `take`, without a use: 0, or the seconds until the window ends in which `key` was used `limit` times."""
        left = func.extract("epoch", rates.c.window_ends - func.clock_timestamp())
        full = (rates.c.key == storable(key), rates.c.used >= limit, rates.c.window_ends > func.clock_timestamp())
        with self._database.single() as connection:
            found = connection.scalar(select(left).where(*full))
        return max(1.0, float(found)) if found is not None else 0.0
