"""What the suites and clients from elsewhere meet: one whole platform, where people sign in. `npm install` in this folder comes
first."""

import hashlib
import json
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from demo_commcare import MATERNAL, NUTRITION, serve_in_thread
from explorer.core.ports import free_port
from explorer.postgres.embedded import EmbeddedPostgres
from tests.e2e import stack as e2e
from tests.e2e.stack import CHILDREN, MOTHERS, Stack
from tests.external import programs
from tests.external.person import Person, at_demo, at_organisation
from tests.external.programs import BIN, HERE, Talk, started

FRAMEWORKS = HERE / "frameworks"
READERS = "mothers-readers"


@dataclass(frozen=True)
class Organisation:
    """An organisation's identity provider. `secret`: of all its applications."""

    issuer: str
    secret: str
    process: Talk


@dataclass(frozen=True)
class Platform:
    """Project spaces of a demo server as tenants, the first of them synced; people sign in there, or at the organisation's
    provider. `bridge`: where it is, without a path."""

    stack: Stack
    bridge: str
    organisation: Organisation

    @property
    def url(self) -> str:
        return f"{self.bridge}/mcp"

    def person(self, username: str) -> Person:
        """Somebody with an account at the demo server, who picks both project spaces."""
        return Person(self.bridge, "demo", at_demo(self.stack.demo, username, MATERNAL, NUTRITION))

    def employee(self, login: str) -> Person:
        """Somebody with an account at the organisation's provider."""
        return Person(self.bridge, "acme", at_organisation(login))


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    parent = Path(tempfile.mkdtemp(prefix="explorer-external-"))
    # When root starts it, the database server runs as another account, which must be able to enter this folder.
    parent.chmod(0o711)
    # Known beforehand: it is in the file by which people sign in.
    bridge, secret = f"http://127.0.0.1:{free_port()}", secrets.token_urlsafe(32)
    node = [str(BIN / "node"), "organisation.mjs", bridge, secret]
    with ExitStack() as ends:
        ends.callback(shutil.rmtree, parent)
        demo = ends.enter_context(serve_in_thread(cases=60))
        process = ends.enter_context(started(*node, env=programs.environment()))
        organisation = Organisation(process.event()["issuer"], secret, process)
        client_id, client_secret = demo.control.oauth_client
        at_server = {
            "provider": "commcare",
            "url": demo.url,
            "client_id": client_id,
            "client_secret_env": "DEMO_SECRET",
        }
        file = parent / "sign_in.yml"
        file.write_text(
            yaml.safe_dump({"servers": {"demo": at_server}, "issuers": {"acme": _acme(organisation, bridge)}})
        )
        env = e2e.environment(
            parent / "home",
            DEMO_KEY=demo.api_key,
            DEMO_SECRET=client_secret,
            ACME_SECRET=secret,
            EXPLORER_SIGN_IN_FILE=str(file),
            EXPLORER_BRIDGE_PORT=bridge.rpartition(":")[2],
        )
        stack = Stack(parent / "home", demo, env)
        ends.callback(EmbeddedPostgres(stack.home).remove_data)
        ends.callback(lambda: stack.cli("down", check=False))
        stack.up()
        stack.add_tenant(MOTHERS, MATERNAL)
        stack.add_tenant(CHILDREN, NUTRITION)
        stack.token = stack.new_token("everything", MOTHERS, CHILDREN)
        assert json.loads(stack.cli("sync", MOTHERS, "--wait", "--json").stdout)["state"] == "SUCCESS"
        yield Platform(stack, bridge, organisation)


def _acme(organisation: Organisation, bridge: str) -> dict[str, object]:
    """The organisation in the sign-in file: one rule for its people and its machines."""
    return {
        "issuer": organisation.issuer,
        "sign_in": {
            "client_id": "data-explorer",
            "client_secret_env": "ACME_SECRET",
            "scopes": ["openid", "profile", "groups"],
        },
        "tokens": {"audience": [f"{bridge}/mcp"], "algorithms": ["RS256"], "leeway_s": 0, "typ_required": True},
        "rules": [
            {"claim": "groups", "any": [READERS], "tenants": [MOTHERS], "scopes": ["metadata:read", "query:run"]}
        ],
    }


@pytest.fixture(scope="session")
def npx() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs a program of `node_modules`, by the Node that lies there too."""
    env = programs.environment()

    def run(*command: str, timeout_s: float = 240) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            cwd=HERE,
            env=env,
            text=True,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def frameworks_python() -> Path:
    """The Python of an environment with the frameworks, made once for their pinned versions."""
    requirements = FRAMEWORKS / "requirements.txt"
    folder = HERE / ".frameworks"
    made_of, mark = hashlib.sha256(requirements.read_bytes()).hexdigest(), folder / "requirements.sha256"
    python = folder / "bin" / "python"
    if not mark.exists() or mark.read_text() != made_of:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        # Compiled when they are imported: most of them never are.
        install = ["install", "--quiet", "--no-compile", "--no-deps", "--disable-pip-version-check"]
        subprocess.run([str(python), "-m", "pip", *install, "-r", str(requirements)], check=True)
        mark.write_text(made_of)
    return python
