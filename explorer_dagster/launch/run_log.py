"""Where do the lines of a run go beside Dagster's storage? To the worker's stderr, in the form of `EXPLORER_LOG_FORMAT`."""

import logging
import sys

import dagster as dg

from explorer.core.settings import get_settings
from explorer.telemetry.logs import formatter


@dg.logger(None, "Lines of a run on stderr, as text or JSON, with the tenant and the run.")
def run_log(context: dg.InitLoggerContext) -> logging.Logger:
    settings = get_settings()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(settings))
    # Of its own: what the logger `dagster` gets, the process's log would tell again.
    logger = logging.Logger("dagster.run", settings.log_level.upper())
    logger.addHandler(handler)
    return logger
