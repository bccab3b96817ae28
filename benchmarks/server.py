"""The demo CommCare server in a process of its own: orders come as JSON lines on stdin, answers go to stdout.

It ends when stdin does, so it never outlives the run.
"""

import json
import os
import sys
import time
from functools import cached_property
from typing import Any

import httpx

from demo_commcare import MATERNAL, RunningServer, serve_in_thread
from demo_commcare.clock import iso

# More than the loader's overlap, so that a later change does not bring the earlier ones again.
_BETWEEN_CHANGES_US = 2 * 3600 * 1_000_000


class Orders:
    """What the run may ask of the server; each method is an order, its result the answer."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server

    @cached_property
    def _case_ids(self) -> list[str]:
        return sorted(case["case_id"] for case in self._server.truth(MATERNAL).iter_cases())

    def latency(self, seconds: float) -> None:
        """Wait so long before each answer."""
        self._server.control.set_latency(seconds)

    def change(self, every: int, offset: int) -> int:
        """Change one property of the cases at `offset`, `offset + every`, ... in the order of their ids; how many they are.

        They are asked for once: the index of a real server has them ready as JSON, this one writes them when it is first asked.
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

    def requests(self) -> list[str]:
        """Path and query of each request so far."""
        return [f"{seen.path}?{seen.query}" for seen in self._server.control.requests]

    def cpu_s(self) -> float:
        """Seconds of CPU that this process has taken."""
        return time.process_time()


def main() -> None:
    """The first line says what to serve: `{"cases", "seed"}`."""
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
