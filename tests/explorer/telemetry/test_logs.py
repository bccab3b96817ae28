"""Lines of logs: text or JSON, with tenant and run where they are known."""

import io
import json
import logging
from contextvars import copy_context

from explorer.telemetry.logs import JsonFormatter, TextFormatter, about, now_about


def logged(formatter: logging.Formatter) -> tuple[logging.Logger, io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.Logger("explorer.test", logging.INFO)
    logger.addHandler(handler)
    return logger, stream


def test_a_line_of_json_has_what_is_known_and_a_traceback_stays_one_line() -> None:
    logger, stream = logged(JsonFormatter())
    logger.info("before %s", "all")
    with about(tenant="www:a", run="r1"), about(run="r2"):
        try:
            raise ValueError('a "quoted"\nvalue')
        except ValueError:
            logger.exception("failed")
    before, failed = map(json.loads, stream.getvalue().splitlines())
    assert {name: before[name] for name in before if name != "at"} == {
        "level": "info", "logger": "explorer.test", "message": "before all",
    }  # fmt: skip
    assert before["at"].endswith("+00:00")
    assert (failed["tenant"], failed["run"], failed["level"]) == ("www:a", "r2", "error")
    assert failed["error"].startswith("Traceback")


def test_a_line_of_text_names_tenant_and_run_before_the_message() -> None:
    logger, stream = logged(TextFormatter())

    def call() -> None:
        now_about(tenant="www:a")
        logger.warning("explorer.test: done")
        now_about(run="r1")
        logger.warning("done")

    copy_context().run(call)
    logger.warning("after")
    lines = [line.split(" ", 2)[2] for line in stream.getvalue().splitlines()]
    assert lines == [
        "WARNING explorer.test [www:a]: explorer.test: done",
        "WARNING explorer.test [www:a run r1]: done",
        "WARNING explorer.test: after",
    ]
