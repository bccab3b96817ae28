"""An installation of its own: private whatever the umask, stopped within seconds whatever runs, and back with all data."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo_commcare import NUTRITION, serve_in_thread
from explorer_cli.processes import marked, wait_until
from explorer_dagster.catalog import Catalog
from explorer_dagster.postgres.connections import Login, load_connections
from explorer_dagster.postgres.embedded import EmbeddedPostgres
from explorer_dagster.runtime_state import read_state
from explorer_dagster.settings import Settings
from tests.e2e.stack import CHILDREN, Stack

# PostgreSQL looks for no interrupt inside strpos: neither a time limit nor a cancellation ends it for minutes.
UNINTERRUPTIBLE = "select strpos(repeat('a', 20000000), 'b' || repeat('a', 60000))"


class OpenStack(Stack):
    """Commands are given by somebody whose umask closes nothing."""

    def cli(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        command = 'umask 000; exec "$0" -m explorer_cli "$@"'
        done = subprocess.run(
            ["/bin/sh", "-c", command, sys.executable, *arguments],
            env=self.env, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"explorer {arguments} exited {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def settings(self) -> Settings:
        return Settings(_env_file=None, home=self.home, database_url=None)

    def reader(self, tenant: str) -> Login:
        with Catalog.open(self.settings()) as catalog:
            login = catalog.schemas.ro_login(catalog.tenants.get(tenant))
        return load_connections(self.settings()).tenant(login.user, login.password)


@pytest.fixture(scope="module")
def stack() -> Iterator[OpenStack]:
    parent = Path(tempfile.mkdtemp(prefix="explorer-operation-"))
    parent.chmod(0o711)
    home = parent / "home"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("EXPLORER_", "DAGSTER_"))}
    with serve_in_thread(cases=60) as demo:
        env = {**inherited, "EXPLORER_HOME": str(home), "EXPLORER_DAGSTER_PORT": "0", "EXPLORER_BRIDGE_PORT": "0"}
        stack = OpenStack(home, demo, {**env, "DEMO_KEY": demo.api_key})
        # What an older version left open.
        for name in ("dbt", "dlt"):
            (home / name / "t_0" / "target").mkdir(parents=True)
            (home / name / "t_0" / "target" / "compiled.sql").write_text("select 1 as last_name")
            for path in (home / name, *(home / name).rglob("*")):
                path.chmod(0o777 if path.is_dir() else 0o666)
        try:
            up(stack)
            stack.cli("tenants", "add", CHILDREN, "--server", demo.url, "--domain", NUTRITION, "--username",
                      demo.username, "--api-key-env", "DEMO_KEY")  # fmt: skip
            stack.token = stack.cli("tokens", "create", "--name", "all", "--tenant", CHILDREN).stdout.strip()
            assert json.loads(stack.cli("sync", CHILDREN, "--wait", "--json").stdout)["state"] == "SUCCESS"
            yield stack
        finally:
            stack.cli("down", check=False)
            EmbeddedPostgres(home).remove_data()
            shutil.rmtree(parent)


def up(stack: Stack) -> None:
    stack.cli("up", "--detach", "--no-demo")
    status = json.loads(stack.cli("status", "--json").stdout)
    stack.bridge_url, stack.dagster_url = status["bridge_url"], status["dagster_url"]


def test_nothing_below_home_is_open_to_others(stack: OpenStack) -> None:
    server = stack.home / "postgres"
    opened = []
    for folder, folders, files in os.walk(stack.home):
        for path in (Path(folder, name) for name in (*folders, *files)):
            mode = path.lstat().st_mode
            # The server's account, where it is not that of whoever started it, gets through by its group.
            allowed = 0o750 if path == server or server / "bin" in (path, *path.parents) else 0o700
            if not stat.S_ISLNK(mode) and stat.S_IMODE(mode) & ~allowed:
                opened.append(f"{stat.S_IMODE(mode):o} {path.relative_to(stack.home)}")
    assert opened == []
    assert stat.S_IMODE(stack.home.stat().st_mode) in (0o700, 0o711)
    for written in ("dbt", "dlt", "dagster/storage", "logs/bridge.log", "logs/up.log", "run/state.json"):
        assert list(stack.home.glob(written)), written


def test_down_ends_in_seconds_whatever_runs_and_all_comes_back(stack: OpenStack) -> None:
    rows = stack.rows(CHILDREN, "select count(*) from cases")
    state = read_state(stack.home)
    reader = stack.reader(CHILDREN)
    ended: list[str] = []

    def ask() -> None:
        try:
            with reader.connect() as conn:
                conn.execute(UNINTERRUPTIBLE)
            ended.append("answered")
        except psycopg.Error:
            ended.append("broken off")

    def follow() -> None:
        # A bridge call in flight, whose run waits for a server that does not answer.
        try:
            stack.call("run_materialization", tenant=CHILDREN, wait_s=45)
        except BaseException as error:
            ended.append(type(error).__name__)

    threads = [threading.Thread(target=ask, daemon=True), threading.Thread(target=ask, daemon=True)]
    stack.demo.control.set_latency(40)
    threads.append(threading.Thread(target=follow, daemon=True))
    for thread in threads:
        thread.start()
    assert wait_until(lambda: len(at_work(stack)) == 2, 20)
    assert wait_until(lambda: len(stack.demo.control.requests) > 0 and len(marked(state["instance"])) > 5, 30)
    time.sleep(3)
    os.kill(state["pids"]["daemon"], signal.SIGSTOP)

    began = time.monotonic()
    down = json.loads(stack.cli("down", "--json").stdout)
    took_s = time.monotonic() - began
    stack.demo.control.set_latency(0)
    assert took_s < 16, took_s
    assert down["stopped"]
    assert down["database_recovers"] is True
    assert marked(state["instance"]) == []
    assert not EmbeddedPostgres(stack.home).is_running()
    for thread in threads:
        thread.join(20)
    assert ended.count("broken off") == 2

    up(stack)
    assert stack.rows(CHILDREN, "select count(*) from cases") == rows
    assert json.loads(stack.cli("sync", CHILDREN, "--wait", "--json").stdout)["state"] == "SUCCESS"


def test_an_idle_platform_is_stopped_politely(stack: OpenStack) -> None:
    down = json.loads(stack.cli("down", "--json").stdout)
    assert down == {"stopped": ["supervisor"], "database_recovers": False}
    up(stack)


def test_a_supervisor_that_is_stopped_is_ended_too(stack: OpenStack) -> None:
    state: dict[str, Any] = read_state(stack.home)
    os.kill(state["supervisor"]["pid"], signal.SIGSTOP)
    began = time.monotonic()
    stack.cli("down")
    assert time.monotonic() - began < 16
    assert marked(state["instance"]) == []
    assert not EmbeddedPostgres(stack.home).is_running()


def at_work(stack: OpenStack) -> list[Any]:
    with stack.admin() as conn:
        return conn.execute(
            "SELECT pid FROM pg_stat_activity WHERE query = %s AND state = 'active'", [UNINTERRUPTIBLE]
        ).fetchall()
