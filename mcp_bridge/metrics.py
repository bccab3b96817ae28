"""What does the bridge count for `/metrics`? Calls, refusals, statements and waits, in Prometheus' form.

Labels stay few: tools, outcomes and error codes are closed lists, and no label names a tenant or a principal.
"""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from explorer.catalog import Amounts

CONTENT_TYPE = CONTENT_TYPE_LATEST
_CALL_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 45.0)
_STATEMENT_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)
_WAIT_S = (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 20.0)


class BridgeMetrics:
    """The numbers of one bridge process, in a registry of their own. For use inside one event loop."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._calls = Counter(
            "explorer_calls", "Calls of tools that have ended.", ("tool", "outcome"), registry=registry
        )
        self._call_s = Histogram(
            "explorer_call_seconds", "Time from a call to its answer.", ("tool",), registry=registry, buckets=_CALL_S
        )
        self._refusals = Counter(
            "explorer_refusals", "Calls that were answered with an error, by its code.", ("code",), registry=registry
        )
        self._refused_tokens = Counter(
            "explorer_refused_tokens", "Requests with a token that is not valid.", registry=registry
        )
        self._at_work = Gauge("explorer_calls_at_work", "Calls that are being served now.", registry=registry)
        self._rows = Counter("explorer_answer_rows", "Rows of queries in answers.", registry=registry)
        self._bytes = Counter("explorer_answer_bytes", "Bytes of answers.", registry=registry)
        self._statement_s = Histogram(
            "explorer_statement_seconds",
            "Time that a statement of an agent ran in the database.",
            registry=registry,
            buckets=_STATEMENT_S,
        )
        self._turn_s = Histogram(
            "explorer_turn_wait_seconds",
            "Time that a query waited for a slot of its tenant and a database session.",
            registry=registry,
            buckets=_WAIT_S,
        )
        self._ready = Gauge(
            "explorer_ready", "1 when the bridge reaches the part, 0 when not.", ("part",), registry=registry
        )

    def at_work(self) -> AbstractContextManager[None]:
        """The block serves a call."""
        return self._at_work.track_inprogress()

    def call_ended(self, tool: str, outcome: str, code: str | None, seconds: float, used: Amounts) -> None:
        """The call has ended. `code`: of the error that it was answered with; `used`: as its budget counts."""
        self._calls.labels(tool, outcome).inc()
        self._call_s.labels(tool).observe(seconds)
        if code is not None:
            self._refusals.labels(code).inc()
        self._rows.inc(used.rows)
        self._bytes.inc(used.bytes)

    def token_refused(self) -> None:
        """A token was not valid."""
        self._refused_tokens.inc()

    def statement_ran(self, seconds: float) -> None:
        """A statement has ended, with or without an error."""
        self._statement_s.observe(seconds)

    def turn_waited(self, seconds: float) -> None:
        """A query has got its turn and a session, or gave up waiting."""
        self._turn_s.observe(seconds)

    def text(self, readiness: dict[str, str]) -> bytes:
        """All of it as text of `CONTENT_TYPE`. `readiness`: the report of `/readyz`."""
        for part in ("database", "dagster"):
            self._ready.labels(part).set(readiness.get(part) == "ok")
        return generate_latest(self._registry)


class _Families(Collector):
    """Metrics that were measured elsewhere."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def of_processes(texts: Mapping[str, str]) -> bytes:
    """The texts of several processes as one, each line with the label `process`: the key of its text."""
    families: dict[str, Metric] = {}
    for process, text in texts.items():
        for found in text_string_to_metric_families(text):
            family = families.setdefault(found.name, Metric(found.name, found.documentation, found.type))
            family.samples += [each._replace(labels={**each.labels, "process": process}) for each in found.samples]
    registry = CollectorRegistry()
    registry.register(_Families(families.values()))
    return generate_latest(registry)
