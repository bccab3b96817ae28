"""The demo CommCare server as a part of the platform: which port and key it has, kept in HOME/demo.json so that the demo tenants,
which hold its address and key, stay valid from one start to the next."""

import json
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import httpx

from explorer_cli.processes import choose_port
from explorer_cli.supervisor import Part
from explorer_dagster.runtime_state import write_private
from explorer_dagster.settings import Settings

HOST = "127.0.0.1"
USERNAME = "demo@example.org"
PROBE_TIMEOUT_S = 3.0


@dataclass(frozen=True)
class DemoServer:
    """Address and key of the demo server of one HOME."""

    port: int
    cases: int
    api_key: str = field(repr=False)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        """The server of HOME, on its earlier port if that is still free. Raises PortInUse for a configured port that is taken."""
        file = settings.home / "demo.json"
        try:
            known = json.loads(file.read_text())
        except (FileNotFoundError, ValueError):
            known = {}
        port = choose_port(HOST, settings.demo_port, setting="EXPLORER_DEMO_PORT", preferred=int(known.get("port", 0)))
        server = cls(port, settings.demo_cases, str(known.get("api_key") or secrets.token_hex(20)))
        write_private(file, json.dumps({"port": server.port, "api_key": server.api_key, "username": USERNAME}))
        return server

    def part(self, env: Mapping[str, str]) -> Part:
        """The process; the key goes through the environment."""
        argv = [sys.executable, "-m", "demo_commcare", "--host", HOST, "--port", str(self.port), "--cases", str(self.cases)]
        env = {name: value for name, value in env.items() if not name.startswith("EXPLORER_")}
        return Part(
            "demo-server",
            "Demo CommCare server",
            argv,
            {**env, "DEMO_COMMCARE_API_KEY": self.api_key},
            ready=self.answers,
            needs=("packages",),
            address=self.url,
        )

    def answers(self) -> bool:
        """Whether the API lets our key in."""
        headers = {"Authorization": f"ApiKey {USERNAME}:{self.api_key}"}
        try:
            answer = httpx.get(f"{self.url}/api/user_domains/v1/", headers=headers, timeout=PROBE_TIMEOUT_S, trust_env=False)
        except httpx.HTTPError:
            return False
        return answer.status_code == httpx.codes.OK
