"""Spans of a process of its own: off without an endpoint, and with one they are linked, and tell no values."""

import json
import os
import subprocess
import sys

from tests.collector import Collector, collecting

PROGRAM = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from explorer.core.settings import get_settings
from explorer.telemetry.traces import carried, parent_of, send_spans, span, traceparent

def load():
    with span("load", table="cases"):
        pass

end = send_spans(get_settings(), "explorer-test")
with span("call") as call:
    header = traceparent()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(carried(load)).result()
try:
    with span("run", parent_of(header)):
        raise ValueError("a secret value")
except ValueError:
    pass
end()
print(json.dumps([header, "opentelemetry.sdk" in sys.modules]))
"""


def run(**settings: str) -> list[object]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("EXPLORER_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**inherited, **settings}, capture_output=True, text=True, check=True
    )
    return list(json.loads(done.stdout))


def test_without_an_endpoint_there_are_no_spans_and_no_sdk() -> None:
    assert run() == [None, False]


def test_spans_are_linked_over_threads_and_processes_and_an_error_tells_its_type_alone() -> None:
    with collecting() as collector:
        header, _ = run(EXPLORER_OTLP_ENDPOINT=f"{collector.url}/", EXPLORER_OTLP_HEADERS="X-Key=a%20b,x-other=c")
        assert_linked(collector, str(header))


def assert_linked(collector: Collector, header: str) -> None:
    [call] = [each for each in collector.spans if each.name == "call"]
    assert header.startswith(f"00-{call.trace}-{call.id}-")
    [load] = collector.below(call, "load")
    [failed] = collector.below(call, "run")
    assert (load.service, load.attributes) == ("explorer-test", {"table": "cases"})
    assert (failed.attributes, failed.status) == ({"error.type": "ValueError"}, "ValueError")
    assert "secret value" not in str(collector.spans)
    assert (collector.headers[0]["x-key"], collector.headers[0]["x-other"]) == ("a b", "c")
