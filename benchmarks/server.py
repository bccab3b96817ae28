"""The demo CommCare server in a process of its own: orders come as JSON lines on stdin, answers go to stdout.

A real server has a machine of its own, this one shares the cores with what is measured. Therefore it can remember the texts it
rendered, so that a second reading costs next to nothing. It ends when stdin does, so it never outlives the run.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from demo_commcare import MATERNAL, RunningServer, serve_in_thread
from demo_commcare.clock import DAY_US, iso
from demo_commcare.index import BulkView, DocumentIndex, Query
from demo_commcare.records import CaseRecord

# More than the loader's overlap, so that a later change does not bring the earlier ones again.
_BETWEEN_CHANGES_MS = 2 * 3600 * 1000


class ChangingCases:
    """Makes every nth case of the computed history a changed one: another name, and an index instant later than all others.

    The demo server keeps a copy of each changed document and sorts them for every page, which would be measured then. Here the
    history itself is put in another order. Only lists by `indexed_on` without other conditions are right afterwards.
    """

    def __init__(self, index: DocumentIndex[CaseRecord]) -> None:
        if index.view is None:
            raise ValueError("the history is computed only for more than 2,000 cases")
        self._view: BulkView[CaseRecord] = index.view
        clock, self._case_id, self._number = self._view.fields["indexed_us"], self._view.doc_id, self._view.number
        self._render: Callable[[int, str], str] = self._view.render
        self._instants_ms = [clock(number) for number in range(self._view.bulk.count)]
        self._order = list(range(self._view.bulk.count))
        self._places = self._order
        self._changed: dict[int, str] = {}
        listed = index.select(Query(lambda _case: True), "indexed_us")
        self._next_ms = listed.key(listed.page(0, 1, descending=True)[0])[0] + DAY_US // 1000

    def change(self, every: int, offset: int) -> int:
        """Change the cases whose number leaves `offset` when divided by `every`; how many they are."""
        for number in range(offset, len(self._order), every):
            self._changed[number] = self._changed_text(number)
            self._instants_ms[number] = self._next_ms
            self._next_ms += 1
        self._next_ms += _BETWEEN_CHANGES_MS
        self._order.sort(key=self._instants_ms.__getitem__)
        places = [0] * len(self._order)
        for place, number in enumerate(self._order):
            places[number] = place
        self._places = places
        self._put_into_view()
        return len(range(offset, len(self._order), every))

    def _changed_text(self, number: int) -> str:
        before = self._changed.get(number) or self._render(number, "")
        after = before.replace(iso(self._instants_ms[number] * 1000), iso(self._next_ms * 1000))
        return after.replace('"case_name":"', '"case_name":"New ', 1)

    def _put_into_view(self) -> None:
        self._view.fields = {"indexed_us": lambda place: self._instants_ms[self._order[place]]}
        self._view.doc_id = lambda place: self._case_id(self._order[place])
        self._view.number = self._place
        self._view.render = self._text

    def _place(self, case_id: str) -> int | None:
        number = self._number(case_id)
        return None if number is None else self._places[number]

    def _text(self, place: int, root: str) -> str:
        number = self._order[place]
        return self._changed.get(number) or self._render(number, root)


class Orders:
    """What the run may ask of the server; each method is an order, its result the answer."""

    def __init__(self, server: RunningServer, remember: bool) -> None:
        self._server = server
        self._project = server.app.world.projects[MATERNAL]
        if remember:
            _remember(self._project.cases.view)
            _remember(self._project.forms.view)
        self._changing: ChangingCases | None = None

    def latency(self, seconds: float) -> None:
        """Wait so long before each answer."""
        self._server.control.set_latency(seconds)

    def change(self, every: int, offset: int) -> int:
        """See ChangingCases."""
        with self._server.app.world.lock:
            self._changing = self._changing or ChangingCases(self._project.cases)
            return self._changing.change(every, offset)

    def requests(self) -> list[str]:
        """Path and query of each request so far."""
        return [f"{seen.path}?{seen.query}" for seen in self._server.control.requests]

    def cpu_s(self) -> float:
        """Seconds of CPU that this process has taken."""
        return time.process_time()


def _remember(view: BulkView[Any] | None) -> None:
    if view is not None:
        view.render = lru_cache(maxsize=None)(view.render)
        view.record = lru_cache(maxsize=None)(view.record)


def main() -> None:
    """The first line says what to serve: `{"cases", "seed", "remember"}`."""
    answers, sys.stdout = os.fdopen(os.dup(1), "w", buffering=1), sys.stderr
    wanted = json.loads(sys.stdin.readline())
    with serve_in_thread(cases=wanted["cases"], seed=wanted["seed"]) as server:
        orders = Orders(server, wanted["remember"])
        print(json.dumps({"url": server.url, "username": server.username, "api_key": server.api_key}), file=answers)
        for line in sys.stdin:
            order = json.loads(line)
            print(json.dumps({"answer": getattr(orders, order.pop("order"))(**order)}), file=answers)


if __name__ == "__main__":
    main()
