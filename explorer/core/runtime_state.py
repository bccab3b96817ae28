"""Where the running parts are: `HOME/run/state.json`, written by whoever starts them, read by everybody else.

Holds addresses and process ids, no secret but the path to it. The webserver's token lies beside it in its own 0600 file.
"""

import contextlib
import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

STATE_FILE = Path("run") / "state.json"
TOKEN_FILE = Path("webserver.token")


def read_state(home: Path) -> dict[str, Any]:
    """What `explorer up` wrote: `{dagster_url, bridge_url, demo_url, ...}`; empty when nothing was started, and when the file
    cannot be read or is not what `write_state` writes."""
    try:
        state = json.loads((home / STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return state if isinstance(state, dict) and _is_sound(state) else {}


def _is_sound(state: dict[str, Any]) -> bool:
    """Whether the parts that programs work with have the shape in which they are written."""
    processes = state.get("processes", {})
    return (
        isinstance(processes, dict)
        and all(isinstance(each, dict) and isinstance(each.get("pid") or 0, int) for each in processes.values())
        and all(isinstance(state.get(name) or {}, dict) for name in ("supervisor", "pids", "database"))
        and all(
            isinstance(state.get(name) or "", str) for name in ("instance", "dagster_url", "bridge_url", "demo_url")
        )
    )


def write_state(home: Path, state: dict[str, Any]) -> None:
    """Replace the state in one step, so that a reader never sees half of it."""
    write_private(home / STATE_FILE, json.dumps(state, indent=2))


def clear_state(home: Path) -> None:
    """Forget the state; where nothing can be written it stays, and names processes that are gone."""
    with contextlib.suppress(OSError):
        (home / STATE_FILE).unlink(missing_ok=True)


def webserver_token(home: Path) -> str:
    """The token that the guarded webserver demands on mutations; made at first use, mode 0600."""
    return private_secret(home / TOKEN_FILE)


def known_webserver_token(home: Path) -> str:
    """The same for whoever only sends it: empty when there is none. Makes nothing."""
    try:
        return (home / TOKEN_FILE).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def private_secret(path: Path) -> str:
    """The secret kept in `path`; of several processes that find it missing at once, one creates it and all read that one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(32))
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        Path(temporary).unlink()
    return path.read_text(encoding="utf-8").strip()


def write_private(path: Path, text: str) -> None:
    """Write a 0600 file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        # On a full disk half of it would take the room that others wait for.
        Path(temporary).unlink(missing_ok=True)
        raise
