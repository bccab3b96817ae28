"""A real Dagster for the bridge's tests: webserver, the product's warm launcher, sqlite storage in a temporary folder, the tiny
code location."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from explorer.catalog.secrets.keyring import KEY_FILE
from explorer.core.ports import free_port
from tests.conftest import PgServer

_TINY = Path(__file__).parent / "tiny_dagster"
_CONFIG = """
telemetry: {enabled: false}
run_coordinator: {module: dagster.core.run_coordinator, class: DefaultRunCoordinator}
run_launcher: {module: explorer_dagster.launch.launcher, class: WarmRunLauncher, config: {}}
"""


@contextmanager
def running_dagster(home: Path, pg: PgServer) -> Iterator[str]:
    """The base URL of a webserver whose code location is loaded; everything it started is stopped afterwards. Its workers
    know the platform's database by settings, as on another machine."""
    (home / "dagster.yaml").write_text(_CONFIG)
    definitions = _TINY / "definitions.py"
    (home / "workspace.yaml").write_text(
        f"load_from:\n  - python_file: {{relative_path: {definitions}, location_name: explorer}}\n"
    )
    # Not by a setting, which is read once: other tests rotate the keys.
    (home / KEY_FILE).symlink_to(pg.home / KEY_FILE)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "EXPLORER_HOME": str(home),
        "EXPLORER_CATALOG_URL": pg.connections.service.sqlalchemy_url(),
        "EXPLORER_DATABASE_URL": pg.connections.admin.sqlalchemy_url(),
    }
    webserver = ["-m", "dagster_webserver", "-w", str(home / "workspace.yaml"), "-h", "127.0.0.1", "-p", str(port)]
    with (
        _program(home, "pool", [str(_TINY / "pool.py")], environment, signal.SIGTERM) as pool,
        _program(home, "webserver", webserver, environment, signal.SIGINT) as process,
    ):
        _wait(lambda: _answers(url), process, home / "webserver.log")
        _wait(lambda: "warm, listening" in (home / "pool.log").read_text(), pool, home / "pool.log")
        yield url


@contextmanager
def _program(
    home: Path, name: str, arguments: list[str], environment: dict[str, str], stop: signal.Signals
) -> Iterator["subprocess.Popen[bytes]"]:
    with (home / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *arguments], env=environment, cwd=home, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/server_info", trust_env=False, verify=False, timeout=5).is_success
    except httpx.HTTPError:
        return False


def _wait(is_ready: Callable[[], bool], process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if is_ready():
            return
        time.sleep(0.1)
    raise AssertionError(f"the test's Dagster did not start:\n{log.read_text()[-4000:]}")
