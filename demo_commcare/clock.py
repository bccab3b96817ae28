"""The clock, and instants as CommCare HQ writes them.

Instants are integers of microseconds since 1970 (UTC), because documents are sorted, compared and written millions of
times.
"""

import re
import threading
import time
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ISO = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?)?\s*(Z|z|[+-]\d{2}:?\d{2})?"
)
DAY_US = 86_400_000_000
_MINUTES = tuple(f"T{minute // 60:02d}:{minute % 60:02d}:" for minute in range(1440))
_SECONDS = tuple(f"{second:02d}" for second in range(60))


def iso(instant_us: int) -> str:
    """`YYYY-MM-DDTHH:MM:SS.ffffffZ`, the form of every instant in case v2 and form answers."""
    return f"{naive_iso(instant_us)}Z"


def naive_iso(instant_us: int) -> str:
    """ISO without a zone, as the location resources write it."""
    seconds, micros = divmod(instant_us, 1_000_000)
    day, second = divmod(seconds, 86_400)
    return f"{_date(day)}{_MINUTES[second // 60]}{_SECONDS[second % 60]}.{micros:06d}"


@lru_cache(maxsize=10_000)
def _date(day: int) -> str:
    return (_EPOCH + timedelta(days=day)).strftime("%Y-%m-%d")


def instant_of(moment: datetime) -> int:
    """Microseconds of an aware datetime."""
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def parse_instant(text: str) -> tuple[int, bool]:
    """Microseconds and whether the text was only a date. Raises ValueError for a text that is no ISO date or datetime."""
    match = _ISO.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    micros = int((fraction or "0").ljust(6, "0")[:6])
    moment = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), micros, UTC)
    if zone and zone not in "Zz":
        digits = zone[1:].replace(":", "")
        offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
        moment = moment - offset if zone[0] == "+" else moment + offset
    return instant_of(moment), hour is None


def midnight(day: date) -> int:
    """Microseconds of a day's first instant (UTC)."""
    return instant_of(datetime(day.year, day.month, day.day, tzinfo=UTC))


class Clock:
    """A wall clock that always advances: each reading is at least one millisecond after the one before."""

    def __init__(self) -> None:
        self._last_us = 0
        self._lock = threading.Lock()

    def now_us(self) -> int:
        return self.reserve_us(0)

    def reserve_us(self, span_us: int) -> int:
        """Reserve a span that starts after every earlier reading and ends before every later one, and return its start. The clock
        runs ahead by `span_us`."""
        with self._lock:
            start_us = max(time.time_ns() // 1_000, self._last_us + 1_000)
            self._last_us = start_us + span_us
            return start_us
