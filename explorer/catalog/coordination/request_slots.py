"""When may the next request for a tenant be sent? One row per tenant, which all processes and hosts update.

Implements `explorer.http.limiter.Slots`. All times are the database's.
"""

import json
import threading
from contextlib import suppress
from typing import Any

import psycopg

from explorer.catalog.coordination.budgets import Amounts, Spent, Used
from explorer.catalog.coordination.quotas import DAY_S, LoadAllowance
from explorer.catalog.errors import CatalogUnavailable
from explorer.postgres.connections import Login

_CONNECT_TIMEOUT_S = 3
_STATEMENT_TIMEOUT_S = 2
# `next_at`: when the bucket will be full again; a slot comes one bucket earlier. One that is further ahead than so many callers
# can have moved it was written under a clock that has been set back since: nobody waits for that to come round again.
_MOST_WAITING = 100
_RESERVE = f"""
INSERT INTO catalog.request_slots AS slots (server, external_id, next_at, not_before)
VALUES (%(server)s, %(external_id)s, clock_timestamp() + %(interval_s)s * interval '1 second', to_timestamp(0))
ON CONFLICT (server, external_id) DO UPDATE SET next_at = %(interval_s)s * interval '1 second' + greatest(
    least(slots.next_at, greatest(slots.not_before, clock_timestamp())
        + (%(burst_s)s + {_MOST_WAITING} * %(interval_s)s) * interval '1 second'),
    slots.not_before + (%(burst_s)s - %(interval_s)s) * interval '1 second',
    clock_timestamp()
)
RETURNING extract(epoch FROM next_at - clock_timestamp())::float8 - %(burst_s)s,
          extract(epoch FROM not_before - clock_timestamp())::float8
"""  # noqa: S608 (a statement of ours)
# The same, and the request is counted with the bytes of the answers before it.
_RESERVE_COUNTED = f"""
WITH slot (wait_s, paused_s) AS ({_RESERVE}) SELECT wait_s, paused_s, catalog.spend(%(spent)s::jsonb) FROM slot
"""  # noqa: S608 (a statement of ours)
_SPEND = "SELECT 0.0::float8, 0.0::float8, catalog.spend(%(spent)s::jsonb)"
_PAUSE = """
INSERT INTO catalog.request_slots AS slots (server, external_id, next_at, not_before)
VALUES (%(server)s, %(external_id)s, clock_timestamp(), clock_timestamp() + %(duration_s)s * interval '1 second')
ON CONFLICT (server, external_id) DO UPDATE SET not_before = greatest(slots.not_before, excluded.not_before)
RETURNING 0.0::float8, 0.0::float8
"""
_PAUSED = """
SELECT 0.0::float8, extract(epoch FROM not_before - clock_timestamp())::float8
FROM catalog.request_slots WHERE server = %(server)s AND external_id = %(external_id)s
"""
# Slots reserved after the pause are released with it.
_LIFT = """
UPDATE catalog.request_slots AS slots SET not_before = to_timestamp(0), next_at = clock_timestamp()
FROM (SELECT * FROM catalog.request_slots WHERE server = %(server)s AND external_id = %(external_id)s FOR UPDATE) AS before
WHERE slots.server = before.server AND slots.external_id = before.external_id AND before.not_before > clock_timestamp()
RETURNING 0.0::float8, extract(epoch FROM before.not_before - clock_timestamp())::float8
"""


class RequestSlots:
    """The slots of one tenant, over a connection of their own; a millisecond per call. Thread-safe.

    `allowance`: how many requests the tenant may still send in the day; without it none is counted.
    """

    def __init__(self, login: Login, server: str, external_id: str, allowance: LoadAllowance | None = None) -> None:
        self._login, self._allowance = login, allowance
        self._received = 0
        self._place = {"server": server, "external_id": external_id}
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def reserve(self, rate: float) -> tuple[float, float]:
        """Take the next slot at `rate` requests per second. Returns seconds until the slot, and until the end of the current
        pause.

        Raises:
            QuotaExhausted: the tenant may send no request now.
            CatalogUnavailable
        """
        pace = {"interval_s": 1.0 / rate, "burst_s": max(1.0, 1.0 / rate)}
        if self._allowance is None:
            wait_s, paused_s, _ = self._ask(_RESERVE, **pace)
            return wait_s, paused_s
        wait_s, paused_s, used = self._count(_RESERVE_COUNTED, self._allowance, requests=1, **pace)
        if (error := self._allowance.refuse(used)) is not None:
            # It is not sent.
            self._count(_SPEND, self._allowance, requests=-1)
            raise error
        return wait_s, paused_s

    def received(self, size: int) -> None:
        """An answer had so many bytes: they are counted with the next request, or at the end."""
        with self._lock:
            self._received += size

    def pause(self, duration_s: float) -> None:
        """Give no slot within the next `duration_s` seconds; a longer current pause stays.

        Raises:
            CatalogUnavailable
        """
        self._ask(_PAUSE, duration_s=duration_s)

    def paused_s(self) -> float:
        """Seconds until the end of the current pause; 0 when there is none.

        Raises:
            CatalogUnavailable
        """
        return max(0.0, self._ask(_PAUSED)[1])

    def lift(self) -> float:
        """End the current pause for all processes, so that the next request is sent at once. Returns the seconds that were left,
        0 without a pause.

        Raises:
            CatalogUnavailable
        """
        return max(0.0, self._ask(_LIFT)[1])

    def close(self) -> None:
        """Close the connection; a later call opens another. What was received is counted, if the database answers."""
        if self._allowance is not None and self._received:
            with suppress(CatalogUnavailable):
                self._count(_SPEND, self._allowance, requests=0)
        with self._lock:
            self._disconnect()

    def _count(
        self, statement: str, allowance: LoadAllowance, *, requests: int, **pace: float
    ) -> tuple[float, float, Used]:
        with self._lock:
            received, self._received = self._received, 0
        spent = json.dumps([Spent(allowance.key, DAY_S, Amounts(calls=requests, bytes=received)).as_object()])
        try:
            wait_s, paused_s, found = self._ask(statement, spent=spent, **pace)
        except CatalogUnavailable:
            self.received(received)
            raise
        return wait_s, paused_s, Used.from_object(found[0])

    def _ask(self, statement: str, **values: float | str) -> tuple[float, float, Any]:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._connect()
                row = self._connection.execute(statement, {**self._place, **values}).fetchone()
            except psycopg.Error as error:
                self._disconnect()
                raise CatalogUnavailable(
                    "The database does not say when the next request may go out.",
                    next_step="`explorer status` tells whether it runs.",
                ) from error
        wait_s, paused_s, *found = row or (0.0, 0.0)
        return wait_s, paused_s, found[0] if found else None

    def _connect(self) -> "psycopg.Connection[tuple[Any, ...]]":
        parameters = {**self._login.conninfo(), "connect_timeout": _CONNECT_TIMEOUT_S}
        connection = psycopg.connect(**parameters, application_name="explorer-limiter", autocommit=True)
        # The longest delay of a request when another process holds the row's lock.
        connection.execute(f"SET statement_timeout = '{_STATEMENT_TIMEOUT_S}s'")
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
