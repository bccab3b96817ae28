"""Where may this process connect to? While a guard is up, only to the servers that it names.

Python tells its audit hooks of every connection and of every name that is looked up (PEP 578), whichever library asks. A hook
cannot be taken away again, so that there is one per process, which refuses nothing while no guard is up. libpq looks up and
connects without Python, and so does psycopg2; but psycopg 3 looks up the names of database servers in Python, so that these are
allowed by who uses it. Other processes are not seen, and code that wants to escape can; it is a second lock behind the rules
of the network (docs/deploy.md).
"""

import ipaddress
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Self
from urllib.parse import urlsplit

from explorer.core.errors import ExplorerError

Address = tuple[str, int]
_DEFAULT_PORTS = {"http": 80, "https": 443, "redis": 6379, "rediss": 6379, "socks5": 1080}
_LOOKUPS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo")
_CONNECTIONS = ("socket.connect", "socket.sendto", "socket.sendmsg")


class ConnectionForbidden(ExplorerError):
    """A run wanted to connect to something else than its tenant's server."""

    code = "connection_forbidden"


class ConnectGuard:
    """A context manager: inside the block this process connects to the allowed servers alone. Thread-safe."""

    def __init__(self, *allowed: Address) -> None:
        self._lock = threading.Lock()
        self._allowed = list(allowed)
        self._known: set[Address] = set()

    def __enter__(self) -> Self:
        _install()
        with _lock:
            _up.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        with _lock:
            _up.remove(self)

    @contextmanager
    def allowing(self, *addresses: Address) -> Iterator[None]:
        """Inside the block these servers are allowed too."""
        with self._lock:
            self._allowed += addresses
        try:
            yield
        finally:
            with self._lock:
                for address in addresses:
                    self._allowed.remove(address)
                self._known.clear()

    def lets_look_up(self, host: object) -> bool:
        """Whether a name may be asked for. An address is not looked up."""
        name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
        with self._lock:
            return any(name.casefold() == allowed.casefold() for allowed, _ in self._allowed)

    def lets_connect(self, ip: str, port: int) -> bool:
        """Whether it is an address of an allowed server; its name is looked up again when it has a new one."""
        with self._lock:
            allowed, known = list(self._allowed), set(self._known)
        if (ip, port) in allowed or (ip, port) in known:
            return True
        found = {(each, at) for host, at in allowed if at == port for each in _addresses(host, port)}
        with self._lock:
            self._known |= found
        return (ip, port) in found


def address_of(url: str) -> Address:
    """Host and port of a URL. Raises ValueError."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)


def proxies() -> list[Address]:
    """The proxies of the environment, by which a server on the internet may be reached."""
    found = {os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")}
    return sorted(address_of(url if "://" in url else f"http://{url}") for url in found if url)


_lock = threading.Lock()
_up: list[ConnectGuard] = []


@cache
def _install() -> None:
    sys.addaudithook(_seen)


def _seen(event: str, arguments: tuple[Any, ...]) -> None:
    if not _up or not event.startswith("socket."):
        return
    if event in _CONNECTIONS:
        # A socket that was connected before has no address with what it sends.
        to = arguments[1]
        if to is not None and not _may_connect(to):
            raise _forbidden(_shown(to))
    elif event in _LOOKUPS:
        host = arguments[0][0] if isinstance(arguments[0], tuple) else arguments[0]
        if host is not None and not any(guard.lets_look_up(host) for guard in _guards()):
            raise _forbidden(str(host))


def _may_connect(to: Any) -> bool:
    # A path is a Unix socket, behind which is somebody with rights of their own.
    if not isinstance(to, tuple) or len(to) < 2 or not isinstance(to[1], int):
        return False
    ip = str(to[0]).partition("%")[0]
    return any(guard.lets_connect(ip, to[1]) for guard in _guards())


def _guards() -> list[ConnectGuard]:
    with _lock:
        return list(_up)


def _addresses(host: str, port: int) -> set[str]:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return {host}
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError:
        return set()


def _shown(to: Any) -> str:
    return f"{to[0]}:{to[1]}" if isinstance(to, tuple) and len(to) > 1 else repr(to)


def _forbidden(where: str) -> ConnectionForbidden:
    return ConnectionForbidden(
        f"This run wanted to connect to {where}, but a run may connect to its tenant's server and to the database alone.",
        next_step="Look at what it was doing: no source, model or package may bring data elsewhere. If the tenant's server has "
        "moved, correct the tenant.",
    )
