"""Which spans does a process send, and where? From a call to its run, its loads and their statements, over OTLP.

Nothing is sent, and the SDK is not imported, unless `EXPLORER_OTLP_ENDPOINT` is set: then the spans of OpenTelemetry's API, which
the MCP SDK makes too, go there in the background. A span holds names and numbers; no statement's text, no values, no secrets.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar
from urllib.parse import unquote

from opentelemetry import propagate, trace
from opentelemetry.context import Context

from explorer.core.errors import ExplorerError, SettingsInvalid
from explorer.core.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")
_TRACEPARENT = "traceparent"
_NAME = "data-explorer"
# Spans that wait are sent before a process ends; an endpoint that does not answer must not keep it longer.
_END_MS = 3000


def send_spans(settings: Settings, service: str) -> Callable[[], None]:
    """From now on, send this process's spans to the endpoint of the settings, as of `service`. For a program's main, after it has
    forked what it forks. Returns what sends the rest and ends it.

    Raises:
        SettingsInvalid: the extra `telemetry` is not installed.
    """
    if settings.otlp_endpoint is None:
        return lambda: None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SettingsInvalid(
            f"EXPLORER_OTLP_ENDPOINT is set, but spans cannot be sent: {error}.",
            next_step="Install the extra: pip install -c constraints.txt -e '.[telemetry]'.",
        ) from None
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    exporter = OTLPSpanExporter(
        endpoint=f"{settings.otlp_endpoint.rstrip('/')}/v1/traces", headers=_headers(settings), timeout=_END_MS // 1000
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)

    def end() -> None:
        provider.force_flush(_END_MS)
        provider.shutdown()

    return end


@contextlib.contextmanager
def span(name: str, parent: Context | None = None, **attributes: str | int | float | bool) -> Iterator[trace.Span]:
    """A span around the block, inside the current one or `parent`. An error in the block is its status, by its type or code:
    messages may hold values."""
    tracer = trace.get_tracer(_NAME)
    with tracer.start_as_current_span(
        name, parent, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current
        except BaseException as error:
            kind = error.code if isinstance(error, ExplorerError) else type(error).__qualname__
            current.set_attribute("error.type", kind)
            current.set_status(trace.StatusCode.ERROR, kind)
            raise


def traceparent() -> str | None:
    """The current span for another process, as W3C's header; None outside of one that is recorded."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get(_TRACEPARENT)


def parent_of(header: str | None) -> Context | None:
    """The context that `traceparent` told."""
    return propagate.extract({_TRACEPARENT: header}, Context()) if header else None


def carried(work: Callable[P, T]) -> Callable[P, T]:
    """`work` for another thread, which continues this thread's span and lines of log. To be called once."""
    here = contextvars.copy_context()
    return lambda *args, **kwargs: here.run(work, *args, **kwargs)


def _headers(settings: Settings) -> dict[str, str]:
    """As OTEL_EXPORTER_OTLP_HEADERS: `name=value,name=value`, values percent-encoded."""
    given = settings.otlp_headers.get_secret_value() if settings.otlp_headers else ""
    pairs = (pair.partition("=") for pair in given.split(",") if "=" in pair)
    return {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs}
