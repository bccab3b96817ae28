"""When does a tenant's turn come? At the times of a cron, moved by an offset of its own, so that not all tenants come at once."""

import hashlib
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from croniter import croniter

from explorer.registry.models import Schedule


def is_cron(text: str) -> bool:
    """Whether it is a cron string of five fields that has a next time."""
    return len(text.split()) == 5 and bool(croniter.is_valid(text))


def interval_s(schedule: Schedule, now: datetime | None = None) -> int:
    """Seconds between the next two times of the cron."""
    times = croniter(schedule.cron, _local(schedule, now or datetime.now(UTC)), ret_type=datetime)
    first: datetime = times.get_next()
    second: datetime = times.get_next()
    return round((second - first).total_seconds())


def offset(schedule: Schedule, key: str) -> timedelta:
    """How long after the times of the cron the tenant of this key has its turn: always the same, within the schedule's spread and
    before the cron's next time."""
    window_s = min(schedule.spread_minutes * 60, interval_s(schedule))
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8])
    return timedelta(seconds=place % window_s if window_s > 0 else 0)


def last_turn(schedule: Schedule, key: str, now: datetime) -> datetime:
    """The tenant's last turn up to `now`, in UTC."""
    own = offset(schedule, key)
    # croniter looks strictly before: a turn at `now` has come.
    start = _local(schedule, now - own + timedelta(seconds=1))
    at: datetime = croniter(schedule.cron, start, ret_type=datetime).get_prev()
    return (at + own).astimezone(UTC)


def next_turn(schedule: Schedule, key: str, now: datetime) -> datetime:
    """The tenant's next turn after `now`, in UTC."""
    own = offset(schedule, key)
    at: datetime = croniter(schedule.cron, _local(schedule, now - own), ret_type=datetime).get_next()
    return (at + own).astimezone(UTC)


def _local(schedule: Schedule, moment: datetime) -> datetime:
    return moment.astimezone(ZoneInfo(schedule.timezone))
