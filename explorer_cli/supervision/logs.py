"""Limits the size of parts' logs and reads their last lines."""

import contextlib
import os
from pathlib import Path

LOG_ROTATE_BYTES = 10 * 1024 * 1024


def rotate(log: Path) -> None:
    """Move the content of a log above the limit to `<log>.1` and empty the file, which a running child still appends to.

    Raises OSError; the log is then unchanged.
    """
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_ROTATE_BYTES:
            old = log.with_name(f"{log.name}.1")
            old.touch(mode=0o600)
            old.write_bytes(log.read_bytes())
            os.truncate(log, 0)


def tail(log: Path, lines: int = 15) -> list[str]:
    """The last lines of a log; empty when the file does not exist."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16_384))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []
