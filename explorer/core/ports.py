"""Which TCP ports are free, who uses the others, and how do we listen?"""

import contextlib
import socket
import sys
from pathlib import Path

BACKLOG = 128


def port_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    with socket.socket(_family(host)) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def port_user(port: int) -> str | None:
    """`process 123 (nginx)` for the process that listens on `port`, None when it is not visible."""
    inodes = _listening_inodes(port) if sys.platform == "linux" else set()
    for entry in Path("/proc").iterdir() if inodes else []:
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            for link in (entry / "fd").iterdir():
                if str(link.readlink()) in inodes:
                    return f"process {entry.name} ({(entry / 'comm').read_text().strip()})"
    return None


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 picks one. Raises OSError."""
    return _listening(socket.socket(_family(host), socket.SOCK_STREAM), host, port)


def reserve(host: str, port: int) -> socket.socket:
    """A socket that gets no connections, but holds the port for sockets of `listen_beside`; port 0 picks one. Raises OSError."""
    holder = _sharing(host)
    try:
        holder.bind((host, port))
    except OSError:
        holder.close()
        raise
    return holder


def listen_beside(host: str, port: int) -> socket.socket:
    """A listening socket beside those that other processes of this account have there; each connection goes to one of them.
    Raises OSError."""
    return _listening(_sharing(host), host, port)


def _sharing(host: str) -> socket.socket:
    made = socket.socket(_family(host), socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return made


def _listening(listener: socket.socket, host: str, port: int) -> socket.socket:
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # asyncio sets this only on sockets that name their protocol. Without it the end of an answer is delayed by 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    return inodes
