"""The Tiny system: gardens with plants and visits, over HTTP. Tests compare tables with its store. It also serves Bare's sites.

`GET /api/me`, `/api/gardens/<id>/schema`, `/api/gardens/<id>/plants?after=&limit=` (in the order of ids), and
`/api/gardens/<id>/visits?page_token=&limit=` (records without any id, some of them equal).

Bare: `/v1/sites/<number>/readings?offset=&limit=` and `/v1/sites/<number>/alarms`, records without any id, in one answer.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "tiny-token-7f3a"
GARDEN = "rose-hill"
KEY = "bare-key-51c8"
SITE = 17


@dataclass
class Store:
    """The system's records. `requests`: the requested paths, with a valid token."""

    plants: list[dict[str, Any]] = field(default_factory=list)
    visits: list[dict[str, Any]] = field(default_factory=list)
    readings: list[dict[str, Any]] = field(default_factory=list)
    alarms: list[dict[str, Any]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def fill(self) -> None:
        """25 plants, and 12 visits of which two are equal; 33 readings, and 4 alarms of which three are equal."""
        self.plants = [{"id": n, "name": f"plant {n}", "height_cm": 10 * n} for n in range(1, 26)]
        self.visits = [{"plant_id": n, "day": f"2026-03-{n:02}", "note": "watered"} for n in range(1, 12)]
        self.visits.append(dict(self.visits[3]))
        self.readings = [{"id": n, "meter": f"m{n % 3}", "litres": n * 1.5} for n in range(1, 34)]
        self.alarms = [{"meter": "m1", "text": "leak"}] * 3 + [{"meter": "m2", "text": "dry"}]


@dataclass(frozen=True)
class TinyServer:
    """A running system."""

    url: str
    store: Store


@contextmanager
def serve() -> Iterator[TinyServer]:
    """Serve the system on a free port of this machine."""
    store = Store()
    store.fill()

    class Handler(_Handler):
        held = store

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield TinyServer(f"http://127.0.0.1:{server.server_address[1]}", store)
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    held: Store
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if self.headers.get("X-Tiny-Token") != TOKEN and self.headers.get("X-Bare-Key") != KEY:
            self._answer(401, {"error": "unknown token"})
            return
        self.held.requests.append(parts.path)
        status, answer = self._find(parts.path.strip("/").split("/"), query)
        self._answer(status, answer)

    def _find(self, path: list[str], query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        match path:
            case ["api", "me"]:
                return 200, {"user": "gardener", "gardens": [{"id": GARDEN, "title": "Rose Hill"}]}
            case ["api", "gardens", garden, resource] if garden == GARDEN and resource in (
                "schema",
                "plants",
                "visits",
            ):
                return 200, getattr(self, f"_{resource}")(query)
            case ["v1", "sites", site, ("readings" | "alarms") as resource] if site == str(SITE):
                records: list[dict[str, Any]] = getattr(self.held, resource)
                start, limit = int(query.get("offset", 0)), int(query.get("limit", len(records)))
                return 200, {resource: records[start : start + limit], "count": len(records)}
        return 404, {"error": "no such garden"}

    def _schema(self, query: dict[str, str]) -> dict[str, Any]:
        return {"resources": {"plants": _fields(self.held.plants), "visits": _fields(self.held.visits)}}

    def _plants(self, query: dict[str, str]) -> dict[str, Any]:
        after, limit = int(query.get("after", 0)), int(query["limit"])
        return {"plants": sorted((p for p in self.held.plants if p["id"] > after), key=lambda p: p["id"])[:limit]}

    def _visits(self, query: dict[str, str]) -> dict[str, Any]:
        start, limit = int(query.get("page_token", 0)), int(query["limit"])
        end = start + limit
        more = end < len(self.held.visits)
        return {"visits": self.held.visits[start:end], "next_token": str(end) if more else None}

    def _answer(self, status: int, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def _fields(records: list[dict[str, Any]]) -> list[str]:
    return sorted({name for record in records for name in record})


if __name__ == "__main__":
    with serve() as running:
        print(f"Address {running.url}, token {TOKEN}. Ctrl-C stops it.", flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
