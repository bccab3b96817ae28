"""While a guard is up, this process reaches what is allowed and nothing else, whatever asks."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from explorer.core.connect_guard import ConnectGuard, ConnectionForbidden, address_of, proxies


@pytest.fixture
def ports() -> Iterator[tuple[int, int]]:
    """Two servers that listen."""
    with ExitStack() as stack:
        listening = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        yield listening[0].getsockname()[1], listening[1].getsockname()[1]


def raw(host: str, port: int) -> None:
    with socket.socket() as connection:
        connection.connect((host, port))


def datagram(host: str, port: int) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.sendto(b"secret", (host, port))


def library(host: str, port: int) -> None:
    with httpx.Client(trust_env=False, timeout=0.2, verify=False) as client, pytest.raises(httpx.ReadTimeout):
        client.get(f"http://{host}:{port}/")


def created(host: str, port: int) -> None:
    socket.create_connection((host, port)).close()


@pytest.mark.parametrize("connect", [raw, created, library, datagram])
def test_only_the_allowed_server_is_reached(ports: tuple[int, int], connect: Callable[[str, int], None]) -> None:
    own, other = ports
    with ConnectGuard() as guard:
        with guard.allowing(("127.0.0.1", own)):
            connect("127.0.0.1", own)
            for host, port in (("127.0.0.1", other), ("127.0.0.2", own)):
                with pytest.raises(ConnectionForbidden, match="alone"):
                    connect(host, port)
        with pytest.raises(ConnectionForbidden):
            connect("127.0.0.1", own)
    connect("127.0.0.1", other)


def test_a_server_is_allowed_by_its_name_and_no_other_name_is_asked_for(ports: tuple[int, int]) -> None:
    own, other = ports
    with ConnectGuard(("localhost", own)):
        created("localhost", own)
        raw("127.0.0.1", own)
        for asks in (
            lambda: created("localhost", other),
            lambda: created("data.example.org", own),
            # A name can carry data away by itself.
            lambda: socket.getaddrinfo("c2VjcmV0.example.org", 443),
            lambda: socket.gethostbyname("c2VjcmV0.example.org"),
        ):
            with pytest.raises(ConnectionForbidden):
                asks()


def test_programs_of_this_machine_are_not_reached_by_their_sockets(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(path))
        server.listen()
        with ConnectGuard(), pytest.raises(ConnectionForbidden):
            client.connect(str(path))


def test_addresses_of_proxies_and_brokers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("all_proxy", "proxy.internal")
    assert proxies() == [("proxy", 3128), ("proxy.internal", 80)]
    assert address_of("redis://:secret@redis/0") == ("redis", 6379)
