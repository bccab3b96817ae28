"""Three bridges, each a process with a HOME of its own and, where the machine lets it, a PID namespace, behind a proxy. The last
one's HOME is empty: it has what it needs by settings."""

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx
import pytest
import yaml

from demo_commcare import MATERNAL, RunningServer, serve_in_thread
from explorer.catalog import ApiKeyCredential, HeadKey, Tenant
from explorer.core.files import private_secret
from explorer.tenants import add_tenant
from tests.mcp_bridge.replicas.front import Front, front
from tests.mcp_bridge.stage import ROOT, Stage, elsewhere, environment
from tests.unasked import Unasked

BRIDGES = 3
# A process of its own pid namespace sees none of the others, as on another machine.
_APART = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


@cache
def _apart() -> list[str]:
    try:
        can = subprocess.run([*_APART, "true"], capture_output=True, timeout=30).returncode == 0
    except OSError:
        can = False
    return _APART if can else []


@dataclass
class Replica:
    """A bridge and its process, or the one that holds its namespace."""

    process: "subprocess.Popen[bytes]"
    folder: Path
    url: str = ""

    def kill(self) -> None:
        """As a machine that loses its power. The process that holds the namespace goes first, the bridge a moment later."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)
        deadline = time.monotonic() + 20
        while self.url and _listens(self.url):
            assert time.monotonic() < deadline, "the bridge outlives its namespace"
            time.sleep(0.02)


def _listens(url: str) -> bool:
    address = httpx.URL(url)
    try:
        socket.create_connection((address.host, address.port or 0), 1).close()
    except OSError:
        return False
    return True


@dataclass
class Replicas:
    """The proxy, the bridges behind it, and the CommCare at which people sign in for `tenant`."""

    stage: Stage
    front: Front
    bridges: list[Replica]
    server: RunningServer
    tenant: Tenant

    @property
    def urls(self) -> list[str]:
        return [bridge.url for bridge in self.bridges]


def _copied(stage: Stage, folder: Path, public_url: str) -> dict[str, str]:
    """The settings of a bridge whose HOME has the secrets of this one, and nothing else of it."""
    home = folder / "home"
    home.mkdir(mode=0o700)
    for file in stage.settings.home.iterdir():
        if file.is_file() and not file.name.endswith(".lock"):
            shutil.copy(file, home)
    return {"EXPLORER_HOME": str(home), "EXPLORER_BRIDGE_PUBLIC_URL": public_url}


def _started(stage: Stage, folder: Path, **settings: str) -> Replica:
    command = [*_apart(), sys.executable, "-m", "mcp_bridge", "--transport", "streamable-http", "--port", "0"]
    env = environment(stage, **settings) | {"PYTHONPATH": str(ROOT)}
    with (folder / "bridge.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--port-file", str(folder / "port")], env=env, cwd=folder, stdout=log, stderr=log
        )
    return Replica(process, folder)


def _wait(bridge: Replica) -> None:
    deadline, log = time.monotonic() + 90, bridge.folder / "bridge.log"
    while not (bridge.folder / "port").exists():
        assert bridge.process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    bridge.url = f"http://127.0.0.1:{(bridge.folder / 'port').read_text().strip()}"
    while True:
        try:
            httpx.get(f"{bridge.url}/healthz", trust_env=False, verify=False)
        except httpx.HTTPError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        else:
            return


@contextmanager
def _running(stage: Stage, folder: Path, url: str, **settings: str) -> Iterator[list[Replica]]:
    bridges: list[Replica] = []
    try:
        for number in range(BRIDGES):
            (own := folder / str(number)).mkdir()
            given = elsewhere(stage, own, url) if number == BRIDGES - 1 else _copied(stage, own, url)
            bridges.append(_started(stage, own, **given, **settings))
        for bridge in bridges:
            _wait(bridge)
        yield bridges
        for bridge in bridges:
            assert "Traceback" not in (bridge.folder / "bridge.log").read_text()
    finally:
        for bridge in bridges:
            bridge.kill()


@pytest.fixture(scope="module")
def replicas(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    folder = tmp_path_factory.mktemp("replicas")
    with ExitStack() as stack:
        server = stack.enter_context(serve_in_thread())
        tenant = add_tenant(
            stage.settings,
            stage.catalog,
            stage.connections,
            Unasked("Maternal"),
            key="door:maternal",
            server=server.url,
            external_id=MATERNAL,
            credential=ApiKeyCredential(server.username, server.api_key),
        )
        # Keys that a first bridge would make; the others need the same.
        private_secret(stage.settings.home / "bridge.key")
        HeadKey.load(stage.settings)
        client_id, secret = server.control.oauth_client
        place = {"provider": "commcare", "url": server.url, "client_id": client_id, "client_secret_env": "DEMO_SECRET"}
        file = folder / "sign_in.yml"
        file.write_text(yaml.safe_dump({"servers": {"demo": place}}))
        proxy = stack.enter_context(front())
        settings = {"EXPLORER_SIGN_IN_FILE": str(file), "DEMO_SECRET": secret, "EXPLORER_QUERY_WAIT_S": "40"}
        bridges = stack.enter_context(_running(stage, folder, proxy.url, **settings))
        proxy.urls = [bridge.url for bridge in bridges]
        yield Replicas(stage, proxy, bridges, server, tenant)
