"""The API's styles of paging over a dictionary in memory, with changes of the data during an extract."""

import base64
import json
import threading
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode

import httpx

START = datetime(2026, 1, 1, tzinfo=UTC)
Change = tuple[Literal["update", "insert", "delete"], str]
# The last three are answers that lie: a page without its last record, one without any, a count that is wrong.
Fault = Literal["500", "429", "truncated", "cut", "lacking", "empty", "count"]


@dataclass
class ModelServer:
    """A transport for httpx. `instants`: `indexed_on` by id. `lists`: how the list is paged, by offset (sorted by id) or by
    link (by instant); otherwise the request tells. Single records and, in bulk, many are answered as
    HQ does. `deleted`: what ever was.

    `changes`: before the n-th request (from 0) these happen; an update or insert gets an instant after all others: now, or by
    `is_behind` the millisecond after the last one, when the server's clock stands far behind ours. `faults`: the
    n-th request fails. `slow_pages`: a request for more records than this always fails. `max_limit`: silently the largest page.
    `old_rules`: servers until 2025: `matching_records` counts what remains, `next` is named while that exceeds the page.
    `latency_s`: of each request, so that requests of several threads are under way at a time.
    """

    instants: dict[str, datetime]
    changes: dict[int, list[Change]] = field(default_factory=dict)
    faults: dict[int, Fault] = field(default_factory=dict)
    max_limit: int = 1000
    slow_pages: int | None = None
    old_rules: bool = False
    is_behind: bool = False
    latency_s: float = 0.0
    lists: Literal["offset", "link"] | None = None
    deleted: set[str] = field(default_factory=set)
    versions: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    at_a_time: int = 0
    most_at_a_time: int = 0
    limits: list[int] = field(default_factory=list)
    _order: list[tuple[int, str]] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        with self._lock:
            self.at_a_time += 1
            self.most_at_a_time = max(self.most_at_a_time, self.at_a_time)
        if self.latency_s:
            time.sleep(self.latency_s)
        with self._lock:
            self.at_a_time -= 1
            number = self.requests
            self.requests += 1
            for kind, name in self.changes.get(number, []):
                self._change(kind, name)
            fault = self.faults.get(number)
            if fault in ("500", "429"):
                return httpx.Response(int(fault))
            query = dict(parse_qsl(request.url.query.decode()))
            last = request.url.path.rstrip("/").rsplit("/", 1)[-1]
            if last == "bulk-fetch":
                answer = self._in_bulk(json.loads(request.content)["case_ids"])
            elif last != "things":
                answer = self._alone(last)
            elif self.lists:
                answer = self._by_offset(query) if self.lists == "offset" else self._by_link(query)
            else:
                answer = self._by_date(query) if "order_by" in query else self._by_cursor(query)
            return _broken(answer, fault) if fault else answer

    def _alone(self, name: str) -> httpx.Response:
        return httpx.Response(200, json=self._record(name)) if name in self.instants else httpx.Response(404)

    def _in_bulk(self, names: list[str]) -> httpx.Response:
        found = [self._record(name) if name in self.instants else {"id": name, "error": "not found"} for name in names]
        return httpx.Response(200, json={"cases": found})

    def _by_offset(self, query: dict[str, str]) -> httpx.Response:
        limit, offset = int(query["limit"]), int(query.get("offset", 0))
        names = sorted(self.instants)
        more = f"?offset={offset + limit}" if offset + limit < len(names) else None
        meta = {"limit": limit, "offset": offset, "total_count": len(names), "next": more}
        return httpx.Response(
            200, json={"meta": meta, "objects": [self._record(name) for name in names[offset : offset + limit]]}
        )

    def _by_link(self, query: dict[str, str]) -> httpx.Response:
        limit, cursor = int(query["limit"]), query.get("cursor", "")
        keys = sorted((f"{millis(instant) + 10**15}-{name}", name) for name, instant in self.instants.items())
        page = [(key, name) for key, name in keys if key > cursor][:limit]
        more = f"?limit={limit}&cursor={page[-1][0]}" if page else None
        return httpx.Response(
            200, json={"meta": {"limit": limit, "next": more}, "objects": [self._record(name) for _, name in page]}
        )

    def _change(self, kind: str, name: str) -> None:
        self._order = None
        if kind == "delete":
            if self.instants.pop(name, None) is not None:
                self.deleted.add(name)
        elif (kind == "update") == (name in self.instants):
            latest = max(self.instants.values(), default=START) + timedelta(milliseconds=1)
            self.instants[name] = latest if self.is_behind else max(latest, datetime.now(UTC))
            self.versions[name] = self.versions.get(name, 0) + 1

    def _record(self, name: str) -> dict[str, Any]:
        instant = self.instants[name].strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {"id": name, "doc_id": name, "indexed_on": instant, "version": self.versions.get(name, 0)}

    def _sorted(self, low: int | None, high: int | None, *, reverse_ties: bool = False) -> list[str]:
        if self._order is None:
            self._order = sorted((millis(instant), name) for name, instant in self.instants.items())
        first = bisect_left(self._order, (low, "")) if low is not None else 0
        last = bisect_left(self._order, (high + 1, "")) if high is not None else len(self._order)
        found = self._order[first:last]
        if reverse_ties:
            found = sorted(reversed(found), key=lambda entry: entry[0])
        return [name for _, name in found]

    def _by_date(self, query: dict[str, str]) -> httpx.Response:
        bounds = [query.get(key) for key in ("indexed_on_start", "indexed_on_end")]
        assert not any(bound and bound.endswith("Z") for bound in bounds)
        limit, offset = self._limit(query["limit"]), int(query.get("offset", 0))
        if limit is None:
            return httpx.Response(504)
        low, high = (millis(datetime.fromisoformat(bound).replace(tzinfo=UTC)) if bound else None for bound in bounds)
        # Without a tie-break the order of equal instants differs between different queries.
        names = self._sorted(low, high, reverse_ties=(low or 0) % 2 == 0)
        page = names[offset : offset + limit]
        more = "?offset=1" if offset + limit < len(names) else None
        meta = {"limit": limit, "offset": offset, "total_count": len(names), "next": more}
        return httpx.Response(200, json={"meta": meta, "objects": [self._record(name) for name in page]})

    def _by_cursor(self, query: dict[str, str]) -> httpx.Response:
        after = (-(10**15), "")
        if "cursor" in query:
            # The parameters of the first request, and where to go on; others are ignored.
            query = dict(parse_qsl(base64.b64decode(query["cursor"]).decode()))
            after = (int(query.pop("indexed_on.gte")), query.pop("last_case_id"))
        assert set(query) <= {"limit", "indexed_on.gt", "indexed_on.lte"}
        limit = self._limit(query["limit"])
        if limit is None:
            return httpx.Response(504)
        low, high = query.get("indexed_on.gt"), query.get("indexed_on.lte")
        names = self._sorted(
            millis(datetime.fromisoformat(low)) + 1 if low else None,
            millis(datetime.fromisoformat(high)) if high else None,
        )
        left = [name for name in names if (millis(self.instants[name]), name) > after]
        page = left[:limit]
        answer: dict[str, Any] = {
            "matching_records": len(left if self.old_rules else names), "cases": [self._record(name) for name in page]
        }  # fmt: skip
        if page and (len(left) > len(page) if self.old_rules else len(page) == limit):
            last = {"indexed_on.gte": millis(self.instants[page[-1]]), "last_case_id": page[-1]}
            cursor = base64.b64encode(urlencode({**query, **last}).encode()).decode()
            answer["next"] = f"http://127.0.0.1/a/d/api/things/?{urlencode({'cursor': cursor})}"
        return httpx.Response(200, json=answer)

    def _limit(self, asked: str) -> int | None:
        """The page size, None when the page takes too long."""
        self.limits.append(int(asked))
        too_much = self.slow_pages is not None and int(asked) > self.slow_pages
        return None if too_much else min(int(asked), self.max_limit)


def millis(moment: datetime) -> int:
    """Whole milliseconds since the model's beginning: how the server compares instants."""
    return (moment - START) // timedelta(milliseconds=1)


def _broken(answer: httpx.Response, fault: str) -> httpx.Response:
    if fault in ("lacking", "empty", "count"):
        return _lying(answer, fault)
    half = answer.content[: len(answer.content) // 2]
    if fault == "truncated":
        return httpx.Response(200, content=half)
    raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


def _lying(answer: httpx.Response, fault: str) -> httpx.Response:
    told = answer.json()
    rows = told.get("objects", told.get("cases"))
    if rows is None:
        return answer
    if fault != "count":
        del rows[0 if fault == "empty" else -1 :]
    elif "meta" in told:
        told["meta"]["total_count"] = len(rows) // 2
    else:
        told["matching_records"] = len(rows) // 2
    return httpx.Response(200, json=told)
