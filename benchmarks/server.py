"""The demo CommCare server in a process of its own: reads orders as JSON lines from stdin, writes answers to stdout.

It ends when stdin does, so it never outlives the run.
"""

import copy
import json
import os
import sys
import time
from functools import cached_property
from typing import Any

import httpx

from demo_commcare import MATERNAL, NUTRITION, RunningServer, serve_in_thread
from demo_commcare.clock import iso
from demo_commcare.world import Project, Truth

# Longer than the loader's overlap, so that the load of a later change does not read the earlier ones again.
_BETWEEN_CHANGES_US = 2 * 3600 * 1_000_000


class Orders:
    """The orders to the server: each method is an order, and its result is the answer."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._changing: Project

    @cached_property
    def _case_ids(self) -> list[str]:
        return sorted(case["case_id"] for case in self._server.truth(MATERNAL).iter_cases())

    def latency(self, seconds: float) -> None:
        """Set the delay before each answer."""
        self._server.control.set_latency(seconds)

    def change(self, every: int, offset: int) -> int:
        """Change one property of the cases at `offset`, `offset + every`, ... in the order of ids; returns their number.

        They are requested once here: a real server's index has them ready as JSON, this one renders them at the first request.
        """
        before_us = self._server.app.world.clock.reserve_us(_BETWEEN_CHANGES_US)
        chosen = self._case_ids[offset::every]
        for case_id in chosen:
            self._server.control.update_case(MATERNAL, case_id, {"phone": f"+9199{offset:08d}"})
        headers = {"Authorization": f"ApiKey {self._server.username}:{self._server.api_key}"}
        with httpx.Client(headers=headers, timeout=60, trust_env=False) as client:
            cases = f"{self._server.url}/a/{MATERNAL}/api/case/v2/"
            answer = (
                client.get(cases, params={"indexed_on.gt": iso(before_us), "limit": "5000"}).raise_for_status().json()
            )
            while answer.get("next"):
                answer = client.get(answer["next"]).raise_for_status().json()
        return len(chosen)

    def spaces(self, count: int) -> list[str]:
        """Make so many project spaces, all with the content of the smallest; returns their names. Every twentieth is one of those
        that `news` changes."""
        projects = self._server.app.world.projects
        still = projects[NUTRITION]
        # They share the world's clock, which has a lock.
        changing = copy.deepcopy(still, {id(still.clock): still.clock})
        names = [f"space-{number:05}" for number in range(count)]
        projects |= {name: still if number % 20 else changing for number, name in enumerate(names)}
        self._changing = changing
        return names

    def news(self) -> None:
        """A case changes in every twentieth space."""
        case_id = sorted(case["case_id"] for case in Truth(self._changing).iter_cases())[0]
        self._changing.update_case(case_id, {"note": str(time.time())})

    def requests(self) -> list[str]:
        """Path and query of each request so far."""
        return [f"{seen.path}?{seen.query}" for seen in self._server.control.requests]

    def cpu_s(self) -> float:
        """The CPU seconds that this process has used."""
        return time.process_time()


def main() -> None:
    """Serve until stdin ends; the first line is the configuration: `{"cases", "seed"}`."""
    answers, sys.stdout = os.fdopen(os.dup(1), "w", buffering=1), sys.stderr
    wanted: dict[str, Any] = json.loads(sys.stdin.readline())
    with serve_in_thread(cases=wanted["cases"], seed=wanted["seed"]) as server:
        orders = Orders(server)
        print(json.dumps({"url": server.url, "username": server.username, "api_key": server.api_key}), file=answers)
        for line in sys.stdin:
            order = json.loads(line)
            print(json.dumps({"answer": getattr(orders, order.pop("order"))(**order)}), file=answers)


if __name__ == "__main__":
    main()
