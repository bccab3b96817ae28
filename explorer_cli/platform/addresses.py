"""Chooses the ports of the parts before anything starts, and writes addresses for clients."""

from explorer.core.ports import free_port, port_free, port_user
from explorer_cli.errors import PortInUse


def choose_port(host: str, configured: int, *, setting: str, preferred: int = 0) -> int:
    """The configured port; for 0 the preferred one if it is free, else any free one.

    Raises:
        PortInUse: the configured port belongs to another program, named when it can be found.
    """
    if configured:
        if not port_free(host, configured):
            raise PortInUse(
                f"Port {configured} on {host} is used by {port_user(configured) or 'another program'}.",
                next_step=f"Stop that program, or set {setting} to another port (0 picks a free one).",
                details={"port": configured, "setting": setting},
            )
        return configured
    if preferred and port_free(host, preferred):
        return preferred
    return free_port(host)


def in_url(host: str) -> str:
    """The host of a listening address as a client on this machine writes it in a URL."""
    if host in ("0.0.0.0", "::"):  # noqa: S104
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
