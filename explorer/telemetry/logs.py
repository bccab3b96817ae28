"""What does a line of a log look like? Text or JSON, with the tenant, the run and the trace where they are known."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import IO

from opentelemetry import trace

from explorer.core.settings import Settings

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_tenant: ContextVar[str | None] = ContextVar("explorer_log_tenant", default=None)
_run: ContextVar[str | None] = ContextVar("explorer_log_run", default=None)


@contextmanager
def about(*, tenant: str | None = None, run: str | None = None) -> Iterator[None]:
    """What is logged inside the block is about this tenant and this run; None leaves what holds outside."""
    tenant_token = _tenant.set(tenant if tenant is not None else _tenant.get())
    run_token = _run.set(run if run is not None else _run.get())
    try:
        yield
    finally:
        _tenant.reset(tenant_token)
        _run.reset(run_token)


def now_about(*, tenant: str | None = None, run: str | None = None) -> None:
    """The same from now on in this task or thread: for what is known in the middle of a call, and for a process of one run."""
    if tenant is not None:
        _tenant.set(tenant)
    if run is not None:
        _run.set(run)


class TextFormatter(logging.Formatter):
    """`2026-01-02 03:04:05,678 INFO mcp_bridge [www:my-domain run 1a2b]: message`."""

    def __init__(self) -> None:
        super().__init__(_TEXT)

    def format(self, record: logging.LogRecord) -> str:
        where = " ".join(filter(None, (_tenant.get(), f"run {run}" if (run := _run.get()) else None)))
        line = super().format(record)
        return line.replace(f"{record.name}: ", f"{record.name} [{where}]: ", 1) if where else line


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `at` (UTC), `level`, `logger`, `message`, and where they are known `tenant`, `run`, `trace_id`,
    `error` (the traceback)."""

    def format(self, record: logging.LogRecord) -> str:
        span = trace.get_current_span().get_span_context()
        facts = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "tenant": _tenant.get(),
            "run": _run.get(),
            "trace_id": trace.format_trace_id(span.trace_id) if span.is_valid else None,
            "error": self.formatException(record.exc_info) if record.exc_info else None,
        }
        known = {name: value for name, value in facts.items() if value is not None}
        return json.dumps(known, ensure_ascii=False, default=str)


def formatter(settings: Settings) -> logging.Formatter:
    """The formatter that `EXPLORER_LOG_FORMAT` asks for."""
    return JsonFormatter() if settings.log_format == "json" else TextFormatter()


def log_to(settings: Settings, stream: IO[str] | None = None) -> None:
    """Send this process's log to `stream`, by default stderr. For a program's main."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter(settings))
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
