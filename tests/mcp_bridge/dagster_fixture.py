"""A real Dagster for the bridge's tests: webserver, sqlite storage in a temporary folder, the tiny code location."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from explorer.core.ports import free_port

_DEFINITIONS = Path(__file__).parent / "tiny_dagster" / "definitions.py"


@contextmanager
def running_dagster(home: Path) -> Iterator[str]:
    """The base URL of a webserver whose code location is loaded; everything it started is stopped afterwards."""
    (home / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\nrun_coordinator: {module: dagster.core.run_coordinator, class: DefaultRunCoordinator}\n"
    )
    (home / "workspace.yaml").write_text(
        f"load_from:\n  - python_file: {{relative_path: {_DEFINITIONS}, location_name: explorer}}\n"
    )
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "DAGSTER_HOME": str(home)}
    command = [
        sys.executable,
        "-m",
        "dagster_webserver",
        "-w",
        str(home / "workspace.yaml"),
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    with (home / "webserver.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, cwd=home, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait(url, process, home / "webserver.log")
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/server_info", trust_env=False, timeout=5).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise AssertionError(f"the test's Dagster did not start:\n{log.read_text()[-4000:]}")
