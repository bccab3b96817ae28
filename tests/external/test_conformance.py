"""The official conformance suite, for the server in each revision that it knows and for the authorization server; and the
inspector in strict mode."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo_commcare.sign_in.accounts import DATA_OFFICER
from explorer.core.ports import free_port
from tests.external import programs
from tests.external.conftest import Platform
from tests.external.programs import BIN, started

# Each revision, and how many scenarios of it the suite has at least.
REVISIONS = {"2025-03-26": 1, "2025-06-18": 20, "2025-11-25": 20, "2026-07-28": 20}
# Streams of the bridge are not gone on with: a client that lost one opens a new one. The suite warns, and nothing else.
WITHOUT_CHECKS = {"2025-11-25": ["server-sse-polling"]}
# A check that saw only this proves nothing.
NOTHING_SEEN = ("Unknown tool", "Method not found", "-32601", "untestable", "Not testable", "Prerequisite failed")
# What everything that a server says is checked against goes on in every scenario, and is no check of the scenario itself.
_IN_ALL = "wire-schema-valid"
# What the suite checks of an authorization server at least.
AUTHORIZATION = {"authorization-server-metadata", "authorization-code-grant"}
Npx = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def url(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A second bridge of the platform, with the suite's tools."""
    folder = tmp_path_factory.mktemp("fixtures")
    port_file, log = folder / "port", folder / "bridge.log"
    module = [sys.executable, "-m", "tests.external.fixture_bridge", "--transport", "streamable-http", "--port", "0"]
    env = {**platform.stack.env, "EXPLORER_DAGSTER_URL": platform.stack.dagster_url, "TOKEN": platform.stack.token}
    root, port = Path(__file__).parents[2], ["--port-file", str(port_file)]
    with log.open("w") as errors, started(*module, *port, env=env, cwd=root, errors=errors) as bridge:
        while not port_file.exists() or not answers(f"http://127.0.0.1:{port_file.read_text().strip()}"):
            assert bridge.process.poll() is None, log.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port_file.read_text().strip()}/mcp"
        assert "Traceback" not in log.read_text(), log.read_text()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", trust_env=False, verify=False).is_success
    except httpx.HTTPError:
        return False


def results(folder: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Each scenario's checks."""
    for file in sorted(folder.glob("*/checks.json")):
        checks = [check for check in json.loads(file.read_text()) if check["id"] != _IN_ALL]
        yield re.sub(r"^server-|-\d{4}-\d\d-\d\dT.*$", "", file.parent.name), checks


@pytest.mark.parametrize("revision", REVISIONS)
def test_every_scenario_passes_and_none_is_empty(npx: Npx, url: str, tmp_path: Path, revision: str) -> None:
    ended = npx(
        "conformance", "server", "--url", url, "--suite", "all", "--spec-version", revision, "-o", str(tmp_path)
    )
    found = dict(results(tmp_path))
    assert len(found) >= REVISIONS[revision], ended.stdout + ended.stderr
    failed = {
        f"{name}/{check['id']}": check.get("errorMessage") or check.get("details")
        for name, checks in found.items()
        for check in checks
        if check["status"] == "FAILURE"
    }
    assert failed == {}
    empty = [
        name
        for name, checks in found.items()
        if not any(
            check["status"] == "SUCCESS" and not any(word in json.dumps(check) for word in NOTHING_SEEN)
            for check in checks
        )
    ]
    assert empty == WITHOUT_CHECKS.get(revision, [])


def test_the_inspector_finds_nothing_wrong_with_the_tools(npx: Npx, platform: Platform) -> None:
    header = f"Authorization: Bearer {platform.stack.token}"
    target = ["--server-url", platform.url, "--transport", "http", "--header", header]
    ended = npx("mcp-inspector", "--cli", *target, "--method", "tools/list", "--strict", "--format", "json")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    listed = json.loads(ended.stdout)
    assert len(listed.get("tools") or listed["result"]["tools"]) >= 10


def test_the_authorization_server_passes_every_scenario(platform: Platform, tmp_path: Path) -> None:
    """The suite asks for a person with a browser, and gets one."""
    port = free_port()
    redirect_uri = f"http://127.0.0.1:{port}/callback"
    registered = httpx.post(
        f"{platform.bridge}/oauth/register", json={"redirect_uris": [redirect_uri]}, trust_env=False, verify=False
    )
    person, said = platform.person(DATA_OFFICER), []
    command = [str(BIN / "conformance"), "authorization", "--url", platform.bridge, "--resource", platform.url]
    suite = [*command, "--client-id", registered.json()["client_id"], "-p", str(port), "-o", str(tmp_path)]
    with started(*suite, env=programs.environment()) as talk:
        for line in talk.lines():
            said.append(line)
            if line.startswith(f"{platform.bridge}/oauth/authorize?"):
                person.lets_in(line)
        assert talk.process.wait(30) == 0, said
    checks = [check for file in tmp_path.rglob("checks.json") for check in json.loads(file.read_text())]
    assert {check["status"] for check in checks} == {"SUCCESS"}, checks
    assert {check["id"] for check in checks} >= AUTHORIZATION, checks
    (granted,) = [check["details"] for check in checks if check["id"] == "authorization-code-grant"]
    assert granted["authorizationResponseUrl"].startswith(redirect_uri)
