"""The whole platform, started by its own command line, with the demo CommCare server beside it."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo_commcare import MATERNAL, NUTRITION, serve_in_thread
from tests.e2e.stack import CHILDREN, MOTHERS, Stack


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    parent = Path(tempfile.mkdtemp(prefix="explorer-e2e-"))
    # When root starts it, the database server runs as another account, which must be able to enter this folder.
    parent.chmod(0o711)
    home = parent / "home"
    with serve_in_thread(cases=240) as demo:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("EXPLORER_", "DAGSTER_"))
        }
        env = {
            **inherited,
            "EXPLORER_HOME": str(home),
            "EXPLORER_DAGSTER_PORT": "0",
            "EXPLORER_BRIDGE_PORT": "0",
            "DEMO_KEY": demo.api_key,
        }
        stack = Stack(home, demo, env)
        try:
            stack.cli("up", "--detach", "--no-demo")
            status = json.loads(stack.cli("status", "--json").stdout)
            stack.bridge_url, stack.dagster_url = status["bridge_url"], status["dagster_url"]
            for key, domain in ((MOTHERS, MATERNAL), (CHILDREN, NUTRITION)):
                stack.cli("tenants", "add", key, "--server", demo.url, "--domain", domain, "--username", demo.username,
                          "--api-key-env", "DEMO_KEY")  # fmt: skip
            both = ("--tenant", MOTHERS, "--tenant", CHILDREN)
            scopes = ("metadata:read", "query:run", "runs:launch", "runs:cancel", "schema:manage")
            stack.token = stack.cli(
                "tokens", "create", "--name", "both", *both, *(f"--scope={s}" for s in scopes)
            ).stdout.strip()
            stack.mothers_token = stack.cli("tokens", "create", "--name", "mothers", "--tenant", MOTHERS).stdout.strip()
            yield stack
        finally:
            stack.cli("down", check=False)
            shutil.rmtree(parent, ignore_errors=True)
