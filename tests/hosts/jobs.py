"""A double of Kubernetes' API for jobs: each job that is valid is run as a process of a machine, one machine after the other."""

import http.server
import itertools
import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kubernetes_validate

from tests.hosts.machines import Machine

VERSION = "1.37"


@dataclass
class Jobs:
    """`made`: the jobs that were asked for, by name, with the machine that runs each. `command` makes one of the arguments of its
    container, `environment` what a machine gives it (in the place of secrets and config maps)."""

    machines: list[Machine]
    command: Callable[[list[str]], list[str]]
    environment: Callable[[Machine], Mapping[str, str]]
    made: dict[str, tuple[Machine, dict[str, Any]]] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._next = itertools.cycle(self.machines)

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        kubernetes_validate.validate({"apiVersion": "batch/v1", "kind": "Job", **body}, VERSION, strict=True)
        name, machine = body["metadata"]["name"], next(self._next)
        container = body["spec"]["template"]["spec"]["containers"][0]
        self.made[name] = machine, body
        machine.start(name, self.command(container["args"]), self.environment(machine))
        return body

    def status(self, name: str) -> dict[str, Any]:
        machine, body = self.made[name]
        process = machine.programs.get(name)
        ended = 1 if process is None else process.poll()
        status = {"active": 1} if ended is None else {"succeeded": 1} if ended == 0 else {"failed": 1}
        return {"apiVersion": "batch/v1", "kind": "Job", **body, "status": status}

    def delete(self, name: str) -> None:
        """The signal that a pod gets first."""
        self.deleted.append(name)
        machine, _ = self.made[name]
        process = machine.programs.get(name)
        if process is not None and process.poll() is None:
            # The first process of the namespace, below the one that made it.
            for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                os.kill(int(child), signal.SIGTERM)


@contextmanager
def served(jobs: Jobs, host: str, port: int) -> Iterator[None]:
    """Serve the API."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def _answer(self, code: int, document: dict[str, Any]) -> None:
            body = json.dumps(document).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _job(self) -> str | None:
            found = re.search(r"/jobs/([^/?]+)", self.path)
            return found[1] if found and found[1] in jobs.made else None

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                self._answer(201, jobs.create(body))
            except kubernetes_validate.ValidationError as error:
                self._answer(422, {"kind": "Status", "code": 422, "message": str(error)})

        def do_GET(self) -> None:
            name = self._job()
            if name is not None:
                self._answer(200, jobs.status(name))
            elif "/pods" in self.path or "/events" in self.path:
                kind = "PodList" if "/pods" in self.path else "EventList"
                self._answer(200, {"apiVersion": "v1", "kind": kind, "metadata": {}, "items": []})
            elif self.path.startswith("/version"):
                self._answer(200, {"major": "1", "minor": "37", "gitVersion": "v1.37.0"})
            else:
                self._answer(404, {"kind": "Status", "code": 404})

        def do_DELETE(self) -> None:
            name = self._job()
            if name is not None:
                jobs.delete(name)
            self._answer(200, {"kind": "Status", "apiVersion": "v1", "status": "Success"})

    with http.server.ThreadingHTTPServer((host, port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
