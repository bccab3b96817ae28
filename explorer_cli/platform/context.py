"""The start of every command: the settings, HOME, and the log file."""

import logging
import logging.handlers
from pathlib import Path

from explorer.core.settings import Settings, get_settings
from explorer.telemetry.logs import formatter
from explorer_cli.supervision.home import open_home

LOG_BYTES = 5 * 1024 * 1024


def open_settings(*, writable: bool = True) -> Settings:
    """Read the settings, make HOME and open the log file. Commands that only show or stop something do not need `writable`.

    Raises SettingsInvalid, HomeNotUsable.
    """
    settings = get_settings()
    open_home(settings.home, writable=writable)
    # A log that cannot be written must not fill the terminal with its own tracebacks.
    logging.raiseExceptions = False
    handler = logging.handlers.RotatingFileHandler(
        settings.home / "logs" / "explorer.log", maxBytes=LOG_BYTES, backupCount=2, encoding="utf-8", delay=True
    )
    handler.setFormatter(formatter(settings))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("explorer_cli").setLevel(settings.log_level.upper())
    return settings


def record_traceback(error: Exception) -> Path | None:
    """Write the traceback to the log and return the log's path; None when there is no log."""
    try:
        settings = open_settings()
        logging.getLogger("explorer_cli").error("Unforeseen", exc_info=error)
    except Exception:
        return None
    return settings.home / "logs" / "explorer.log"
