"""A free port is really free, and for a taken port the owner is named."""

import os
import socket
import sys

import pytest

from explorer.core.ports import free_port, listen, port_free, port_user


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_that_is_listened_on_is_not_free(host: str) -> None:
    port = free_port(host)
    assert port_free(host, port)
    with listen(host, port) as listener:
        assert listener.getsockname()[1] == port
        assert not port_free(host, port)
        with socket.create_connection((host, port), timeout=10) as client, pytest.raises(OSError, match="in use"):
            listen(host, client.getpeername()[1])
    assert port_free(host, port)


def test_the_user_of_a_port_is_named_where_it_can_be_seen() -> None:
    with listen("127.0.0.1", 0) as listener:
        user = port_user(listener.getsockname()[1])
    seen = sys.platform == "linux"
    assert (user or "").startswith(f"process {os.getpid()} (") is seen
    assert port_user(free_port()) is None


def test_small_answers_do_not_wait_for_the_client() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
