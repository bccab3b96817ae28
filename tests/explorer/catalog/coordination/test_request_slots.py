"""One row tells all processes when the next request may start; without the database each process continues alone."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from uuid import uuid4

import pytest

from explorer.catalog import Catalog, CatalogUnavailable
from explorer.catalog.coordination.request_slots import RequestSlots
from explorer.http.limiter import Paused, RateLimiter
from explorer.postgres.connections import Connections

SERVER = "https://www.commcarehq.org"
PROCESSES, REQUESTS = 3, 20
ANOTHER_PROCESS = """
import json, sys
from explorer.catalog.coordination.request_slots import RequestSlots
from explorer.postgres.connections import Login
login, domain, count = json.load(sys.stdin)
slots = RequestSlots(Login(**login), "https://www.commcarehq.org", domain)
for _ in range(count):
    print(slots.reserve(0.5)[0])
"""


@pytest.fixture
def domain() -> str:
    return f"domain-{uuid4().hex[:8]}"


@pytest.fixture
def slots(catalog: Catalog, connections: Connections, domain: str) -> Iterator[RequestSlots]:
    with closing(RequestSlots(connections.service, SERVER, domain)) as slots:
        yield slots


def test_one_seconds_worth_goes_at_once_and_the_rest_in_step(slots: RequestSlots) -> None:
    waits = [slots.reserve(5.0)[0] for _ in range(30)]
    assert max(waits[:5]) <= 0
    # Time goes on between two calls: a later slot is at most one step behind the one before.
    assert max(later - earlier for earlier, later in pairwise(waits)) <= 0.2 + 1e-6
    assert waits[-1] <= (30 - 5) * 0.2


def test_a_clock_that_was_set_back_stops_no_requests(
    slots: RequestSlots, connections: Connections, domain: str
) -> None:
    slots.reserve(5.0)
    with connections.service.connect() as connection:
        connection.execute(
            "UPDATE catalog.request_slots SET next_at = clock_timestamp() + interval '2 hours' WHERE external_id = %s",
            [domain],
        )
    waits = [slots.reserve(5.0)[0] for _ in range(2)]
    # As if a hundred others waited, at five in a second; and the next one after that.
    assert 15 < waits[0] <= 100 / 5 + 0.2
    assert waits[1] <= waits[0] + 0.2


def test_processes_share_one_ceiling(
    slots: RequestSlots, catalog: Catalog, connections: Connections, domain: str
) -> None:
    login = connections.service
    task = [
        {key: getattr(login, key) for key in ("host", "port", "dbname", "user", "password")}, domain, REQUESTS,
    ]  # fmt: skip
    workers = [
        subprocess.Popen([sys.executable, "-c", ANOTHER_PROCESS], stdin=-1, stdout=-1, text=True)
        for _ in range(PROCESSES)
    ]
    for worker in workers:
        assert worker.stdin
        json.dump(task, worker.stdin)
        worker.stdin.close()
    waits = []
    for worker in workers:
        assert worker.stdout
        waits += [float(line) for line in worker.stdout]
        assert worker.wait() == 0
    with login.connect() as connection:
        row = connection.execute(
            "SELECT extract(epoch FROM next_at - clock_timestamp())::float8 FROM catalog.request_slots WHERE external_id = %s",
            [domain],
        ).fetchone()
    assert len(waits) == PROCESSES * REQUESTS
    # Two seconds each, one after the other: nobody was given a slot that another had, whatever the time it took to ask.
    assert row is not None
    assert max(waits) - 60 < row[0] - 2 <= max(waits)
    assert len({round(wait) for wait in waits}) > PROCESSES * REQUESTS / 2


def test_a_pause_of_one_holds_for_all_and_a_shorter_one_does_not_end_it(
    slots: RequestSlots, connections: Connections, domain: str
) -> None:
    with closing(RequestSlots(connections.service, SERVER, domain)) as other:
        other.pause(500)
        other.pause(5)
        first, paused = slots.reserve(10.0)
        assert 400 < paused <= first <= 500
        # After the pause requests go in step, not as the crowd that waited for its end.
        assert 0.05 < slots.reserve(10.0)[0] - first + 0.05 <= 0.15 + 1e-6
        assert slots.reserve(10.0)[1] <= paused
    with closing(RequestSlots(connections.service, SERVER, f"{domain}-other")) as elsewhere:
        assert elsewhere.reserve(10.0)[0] <= 0


def test_a_run_does_not_wait_for_a_pause_that_another_run_was_told(
    slots: RequestSlots, connections: Connections, domain: str
) -> None:
    RateLimiter(10, slots).pause(1000)
    waited: list[float] = []
    with closing(RequestSlots(connections.service, SERVER, domain)) as other:
        limiter = RateLimiter(10, other)
        with pytest.raises(Paused) as caught:
            limiter.wait(waited.append, longest_pause_s=120)
        assert 900 < caught.value.remaining_s <= 1000
        assert waited == []
        limiter.wait(waited.append, longest_pause_s=2000)
    assert 900 < waited[0] <= 1001


def test_without_the_database_the_process_keeps_its_own_pace(
    connections: Connections, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = replace(connections.service, port=1)
    slots = RequestSlots(nowhere, SERVER, "d")
    with pytest.raises(CatalogUnavailable):
        slots.reserve(1.0)
    waited: list[float] = []
    limiter = RateLimiter(10, slots)
    for _ in range(30):
        limiter.wait(waited.append)
    limiter.pause(60)
    limiter.wait(waited.append)
    assert 0 < waited[0] <= 0.1
    assert 50 < waited[-1] <= 61
    assert caplog.text.count("by this process alone") == 1
    assert nowhere.password not in caplog.text


def test_a_broken_connection_is_replaced(slots: RequestSlots, connections: Connections, domain: str) -> None:
    slots.reserve(1.0)
    with connections.admin.connect(autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'explorer-limiter'"
        )
    with pytest.raises(CatalogUnavailable):
        slots.reserve(1.0)
    assert slots.reserve(1.0)[0] > 0
    slots.close()
    assert slots.reserve(1.0)[0] > 0


def test_a_lifted_pause_holds_nobody(slots: RequestSlots, connections: Connections, domain: str) -> None:
    """Neither do the slots that were reserved behind it."""
    assert (slots.paused_s(), slots.lift()) == (0, 0)
    slots.pause(3600)
    for _ in range(50):
        slots.reserve(5.0)
    assert 3500 < slots.paused_s() <= 3600
    with closing(RequestSlots(connections.service, SERVER, domain)) as operator:
        assert 3500 < operator.lift() <= 3600
    wait_s, paused_s = slots.reserve(5.0)
    assert wait_s <= 0.2
    assert paused_s < 0
    assert (slots.paused_s(), slots.lift()) == (0, 0)
