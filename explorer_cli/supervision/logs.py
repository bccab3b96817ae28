"""The logs of parts: kept below a size, and read from their end."""

import contextlib
import os
from pathlib import Path

LOG_ROTATE_BYTES = 10 * 1024 * 1024


def rotate(log: Path) -> None:
    """Keep a log that a running child appends to below the limit: its content moves to `<log>.1`, the file goes on empty.

    Raises OSError; then the log is as it was.
    """
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_ROTATE_BYTES:
            old = log.with_name(f"{log.name}.1")
            old.touch(mode=0o600)
            old.write_bytes(log.read_bytes())
            os.truncate(log, 0)


def tail(log: Path, lines: int = 15) -> list[str]:
    """The last lines of a log, none when there is no such file."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16_384))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []
