"""One platform for all tests with a browser: a bridge, the demo server's people, an organisation's, the Dagster UI; Chromium."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import yaml
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from demo_commcare import MATERNAL, NUTRITION, RunningServer, serve_in_thread
from explorer.catalog import ApiKeyCredential, Catalog, migrate
from explorer.catalog.access.oauth_grants import s256
from explorer.core.settings import Settings
from explorer.postgres.connections import Connections
from explorer.tenants import add_tenant
from tests.browser.elsewhere import CLIENT, Elsewhere, open_elsewhere
from tests.conftest import PgServer
from tests.mcp_bridge.stage import ROOT, Stage, bridge_process
from tests.unasked import Unasked

VERIFIER = "v" * 43
TOKEN = "the-webservers-token-of-this-test"
Device = dict[str, Any]
DESKTOP: Device = {"viewport": {"width": 960, "height": 760}}
PHONE: Device = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
NIGHT: Device = {**PHONE, "color_scheme": "dark"}
DEFINITIONS = ROOT / "tests" / "mcp_bridge" / "tiny_dagster" / "definitions.py"
RULES = [
    {"claim": "groups", "any": ["operators"], "ui": "operate"},
    {"claim": "groups", "any": ["viewers"], "ui": "view"},
]


@dataclass(frozen=True)
class Front:
    """Where a proxy stands before the bridges and the UI: their addresses for browsers, and that of the bridges for the UI."""

    bridge: str
    ui: str
    inner: str


@dataclass
class Place:
    """`url`: of the bridge; `ui`: of the guarded webserver; `environment`: of programs that belong to the platform. Behind a
    proxy the two are the proxy's, and `webserver` and `bridges` (each with its process) are what stands there."""

    connections: Connections
    catalog: Catalog
    url: str
    ui: str
    demo: RunningServer
    elsewhere: Elsewhere
    environment: dict[str, str]
    webserver: str
    bridges: list[tuple[str, "subprocess.Popen[bytes]"]]

    def registers(self, name: str = "A program of mine") -> str:
        """The id of a program that registered itself."""
        wanted = {"client_name": name, "redirect_uris": [self.elsewhere.callback]}
        answer = httpx.post(f"{self.url}/oauth/register", json=wanted, trust_env=False, verify=False)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["client_id"])

    @contextmanager
    def not_registered(self, domain: str) -> Iterator[None]:
        """The project space is no tenant meanwhile, and what was asked for it is forgotten."""
        with self.connections.admin.connect(autocommit=True) as admin:
            move = "UPDATE catalog.tenants SET external_id = %s, external_id_key = %s WHERE key = %s"
            admin.execute(move, ["moved-away", "moved-away", f"www:{domain}"])
            try:
                yield
            finally:
                admin.execute("DELETE FROM catalog.provisioning WHERE kind = 'register'")
                admin.execute(move, [domain, domain, f"www:{domain}"])

    def link(self, client_id: str, redirect_uri: str | None = None) -> str:
        """What the program opens in the person's browser."""
        asked = {
            "response_type": "code", "client_id": client_id, "redirect_uri": redirect_uri or self.elsewhere.callback,
            "state": "its own",
            "code_challenge": s256(VERIFIER), "code_challenge_method": "S256", "resource": f"{self.url}/mcp",
        }  # fmt: skip
        return f"{self.url}/oauth/authorize?{urlencode(asked)}"

    def exchange(self, client_id: str, code: str) -> httpx.Response:
        form = {
            "grant_type": "authorization_code", "client_id": client_id, "code": code, "code_verifier": VERIFIER,
            "redirect_uri": self.elsewhere.callback,
        }  # fmt: skip
        return httpx.post(f"{self.url}/oauth/token", data=form, trust_env=False, verify=False)

    def cli(self, *arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "explorer_cli", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout


def logs_in(page: Page, username: str) -> None:
    """At the demo server: from its log-in page to page 2 of the bridge, with all project spaces."""
    page.get_by_label("Email address").fill(username)
    page.get_by_label("Password").fill("demo")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Authorize").click()


@contextmanager
def open_place(
    pg: PgServer, folder: Path, front: Front | None = None, *, bridges: int = 1, prefix: str = "www"
) -> Iterator[Place]:
    """`front`: of a proxy that is started afterwards; `prefix`: of the tenants' keys: all places have one database."""
    migrate(pg.connections)
    settings = Settings(_env_file=None, home=pg.home, database_url=None, dagster_url="http://127.0.0.1:9")
    with ExitStack() as stack:
        demo, elsewhere = stack.enter_context(serve_in_thread()), stack.enter_context(open_elsewhere())
        catalog = stack.enter_context(Catalog.open(settings))
        titles = {MATERNAL: "Maternal health", NUTRITION: "Nutrition"}
        credential = ApiKeyCredential(demo.username, demo.api_key)
        tenants = {
            domain: add_tenant(settings, catalog, pg.connections, Unasked(titles[domain]), key=f"{prefix}:{domain}",
                               server=demo.url, external_id=domain, credential=credential)
            for domain in titles
        }  # fmt: skip
        client_id, secret = demo.control.oauth_client
        file = folder / "sign_in.yml"
        server = {"provider": "commcare", "url": demo.url, "client_id": client_id, "client_secret_env": "DEMO_SECRET",
                  "title": "CommCare HQ"}  # fmt: skip
        acme = {"issuer": elsewhere.issuer, "title": "Acme", "sign_in": {"client_id": CLIENT}, "rules": RULES}
        people = {"servers": {"demo": server}, "issuers": {"acme": acme}, "self_service": "on"}
        file.write_text(yaml.safe_dump(people))
        webserver = f"http://127.0.0.1:{_free_port()}"
        ui = front.ui if front else webserver
        sign_in = {"EXPLORER_SIGN_IN_FILE": str(file), "DEMO_SECRET": secret, "EXPLORER_UI_URL": ui}
        behind = {"EXPLORER_BRIDGE_PUBLIC_URL": front.bridge} if front else {}
        place = Stage(settings, pg.connections, catalog, tenants)
        served = []
        for number in range(bridges):
            (own := folder / f"bridge-{number + 1}").mkdir()
            served.append(stack.enter_context(bridge_process(place, own, **sign_in, **behind)))
        url = front.bridge if front else served[0][0]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("EXPLORER_")}
        environment = inherited | sign_in | {
            "EXPLORER_HOME": str(pg.home), "EXPLORER_DAGSTER_URL": webserver, "EXPLORER_DAGSTER_TOKEN": TOKEN,
            "EXPLORER_BRIDGE_PUBLIC_URL": url, "DAGSTER_HOME": str(folder), "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        environment |= {"EXPLORER_BRIDGE_INNER_URL": front.inner} if front else {}
        stack.enter_context(_webserver(webserver, folder, environment))
        yield Place(pg.connections, catalog, url, ui, demo, elsewhere, environment, webserver, served)


@contextmanager
def _webserver(url: str, folder: Path, environment: dict[str, str]) -> Iterator[None]:
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    (folder / "workspace.yaml").write_text(
        f"load_from:\n  - python_file: {{relative_path: {DEFINITIONS}, location_name: explorer}}\n"
    )
    command = [sys.executable, "-m", "explorer_dagster.webserver", "--port", url.rpartition(":")[2]]
    log = folder / "webserver.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "-w", str(folder / "workspace.yaml")], env=environment, cwd=folder, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + 120
        while not _answers(url):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 401
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return int(bound.getsockname()[1])


@contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's own Chromium, which knows nobody."""
    program = shutil.which("chromium")
    assert program, "Install Chromium: apt-get install chromium."
    arguments = ["--no-proxy-server", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


def ui_link(place: Place) -> str:
    """What `explorer ui` prints."""
    return str(json.loads(place.cli("ui", "--json"))["url"])


def opened(context: BrowserContext, address: str) -> Page:
    page = context.new_page()
    page.goto(address)
    return page
