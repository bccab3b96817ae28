"""The demo CommCare server as a part of the platform, at which people can sign in to the bridge.

HOME/demo.json keeps its port and API key, because the demo tenants store both and must stay valid after a restart. The secret of
the bridge's application at the server is in a file of its own, which the bridge reads."""

import json
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from explorer.core.files import private_secret, read_json_object, write_private
from explorer.core.settings import Settings
from explorer_cli.errors import PortInUse
from explorer_cli.platform.addresses import choose_port
from explorer_cli.supervision.units import Part

HOST = "127.0.0.1"
# Outside the range of ports for outgoing connections, so that it is still free at the next start.
USUAL_PORT = 8190
FILE = "demo.json"
SIGN_IN_FILE = "demo-sign-in.yml"
SECRET_FILE = "demo-client.secret"  # noqa: S105 - a file's name
# As the demo server knows them: the application, and the name in its redirect URI.
CLIENT_ID, SIGN_IN_NAME = "demo-client", "demo"
USERNAME = "demo@example.org"
PROBE_TIMEOUT_S = 3.0


@dataclass(frozen=True)
class DemoServer:
    """Address and key of the demo server of one HOME."""

    port: int
    cases: int
    api_key: str = field(repr=False)
    client_secret: str = field(repr=False, default="")

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        """Choose the server of HOME: on the configured port, else on its earlier one. Raises PortInUse when the port is taken."""
        known = saved(settings)
        earlier = int(known.get("port", 0))
        try:
            port = choose_port(HOST, settings.demo_port or earlier, setting="EXPLORER_DEMO_PORT", preferred=USUAL_PORT)
        except PortInUse as error:
            if earlier and settings.demo_port in (0, earlier):
                error.next_step = (
                    f"Stop that program: the demo tenants of this state folder hold the address of port {earlier}. "
                    "Or start without the demo (`explorer up --no-demo`), or set EXPLORER_HOME to a fresh folder."
                )
            raise
        secret = private_secret(settings.home / SECRET_FILE)
        server = cls(port, settings.demo_cases, str(known.get("api_key") or secrets.token_hex(20)), secret)
        save(settings, port=server.port, api_key=server.api_key)
        return server

    @classmethod
    def known(cls, settings: Settings) -> Self:
        """The server that the last `prepare` chose."""
        known = saved(settings)
        return cls(int(known["port"]), settings.demo_cases, str(known["api_key"]))

    def part(self, env: Mapping[str, str]) -> Part:
        """The server's process; it gets the key through the environment."""
        argv = [
            sys.executable,
            "-m",
            "demo_commcare",
            "--host",
            HOST,
            "--port",
            str(self.port),
            "--cases",
            str(self.cases),
        ]
        env = {name: value for name, value in env.items() if not name.startswith("EXPLORER_")}
        return Part(
            "demo-server",
            "Demo CommCare server",
            argv,
            {**env, "DEMO_COMMCARE_API_KEY": self.api_key, "DEMO_COMMCARE_CLIENT_SECRET": self.client_secret},
            ready=self.answers,
            needs=("packages",),
            address=self.url,
        )

    @staticmethod
    def lets_people_in(settings: Settings) -> bool:
        """Whether people sign in to the bridge here: not where the settings name another file, or where it does not answer
        at the address that is registered at the server."""
        is_registered = settings.bridge_host == HOST and settings.bridge_public_url is None
        return settings.sign_in_file is None and is_registered

    def write_sign_in_file(self, settings: Settings) -> Path:
        """The file by which people sign in to the bridge at this server."""
        path = settings.home / SIGN_IN_FILE
        server = {
            "provider": "commcare",
            "title": "Demo CommCare HQ",
            "url": self.url,
            "client_id": CLIENT_ID,
            "client_secret_file": str(settings.home / SECRET_FILE),
        }
        write_private(path, yaml.safe_dump({"servers": {SIGN_IN_NAME: server}}))
        return path

    def answers(self) -> bool:
        """Whether the API accepts our key."""
        headers = {"Authorization": f"ApiKey {USERNAME}:{self.api_key}"}
        try:
            answer = httpx.get(
                f"{self.url}/api/user_domains/v1/", headers=headers, timeout=PROBE_TIMEOUT_S, trust_env=False
            )
        except httpx.HTTPError:
            return False
        return answer.status_code == httpx.codes.OK


def saved(settings: Settings) -> dict[str, Any]:
    """The content of HOME/demo.json: `port`, `api_key`, and `token` after the demo made one."""
    return read_json_object(settings.home / FILE)


def save(settings: Settings, **values: Any) -> None:
    """Add values to HOME/demo.json."""
    write_private(settings.home / FILE, json.dumps({**saved(settings), **values}))
