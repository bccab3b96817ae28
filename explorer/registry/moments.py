"""When does a tenant's turn come? At the times of a cron, moved by an offset of its own, so that not all tenants come at once.

Thousands of tenants are asked each minute, and computing a cron takes a fifth of a millisecond: so its times are computed once.
"""

import hashlib
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from croniter import croniter

from explorer.registry.models import Schedule


def interval_s(schedule: Schedule) -> int:
    """Seconds between two times of the cron, in this year's middle."""
    return _interval_s(schedule.cron, schedule.timezone, datetime.now(UTC).year)


def offset(schedule: Schedule, key: str) -> timedelta:
    """How long after the times of the cron the tenant of this key has its turn: always the same, within the schedule's spread and
    before the cron's next time."""
    window_s = min(schedule.spread_minutes * 60, interval_s(schedule))
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8])
    return timedelta(seconds=place % window_s if window_s > 0 else 0)


def last_turn(schedule: Schedule, key: str, now: datetime) -> datetime:
    """The tenant's last turn up to `now`, in UTC."""
    own = offset(schedule, key)
    return _last(schedule, now - own) + own


def next_turn(schedule: Schedule, key: str, now: datetime) -> datetime:
    """The tenant's next turn after `now`, in UTC."""
    own = offset(schedule, key)
    return _times(schedule.cron, schedule.timezone, _last(schedule, now - own))[1] + own


def _last(schedule: Schedule, moment: datetime) -> datetime:
    """The last time of the cron up to the moment."""
    # Of most tenants the same as of the hour in which it lies, or the one after.
    at = _times(schedule.cron, schedule.timezone, moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0))
    last = at[0]
    while (following := _times(schedule.cron, schedule.timezone, last)[1]) <= moment:
        last = following
    return last


@lru_cache(maxsize=4096)
def _times(cron: str, timezone: str, moment: datetime) -> tuple[datetime, datetime]:
    """The last time of the cron up to the moment, and the first after it, in UTC."""
    zone = ZoneInfo(timezone)
    # croniter looks strictly before: a time at the moment has come.
    before: datetime = croniter(cron, (moment + timedelta(seconds=1)).astimezone(zone), ret_type=datetime).get_prev()
    after: datetime = croniter(cron, moment.astimezone(zone), ret_type=datetime).get_next()
    return before.astimezone(UTC), after.astimezone(UTC)


@lru_cache(maxsize=1024)
def _interval_s(cron: str, timezone: str, year: int) -> int:
    times = croniter(cron, datetime(year, 6, 15, tzinfo=ZoneInfo(timezone)), ret_type=datetime)
    first: datetime = times.get_next()
    second: datetime = times.get_next()
    return round((second - first).total_seconds())
