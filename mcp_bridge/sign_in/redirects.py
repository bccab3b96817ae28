"""Where may an answer go? Redirect URIs that the policy allows, and how one compares with those of a client."""

import re
from collections.abc import Iterable
from urllib.parse import SplitResult, urlencode, urlsplit, urlunsplit

from mcp_bridge.sign_in.settings_file import Clients

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_MAX_CHARS = 2000
# What RFC 3986 allows, without brackets and quotes that browsers and parsers read in different ways.
_CHARACTERS = re.compile(r"[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]+")
_DOTS = re.compile(r"(^|/)(\.|%2e){1,2}(/|$)", re.IGNORECASE)


def is_allowed(uri: str, policy: Clients) -> bool:
    """Whether any client may get its answers there."""
    if uri in policy.redirect_uris:
        return True
    parts = _parsed(uri)
    if parts is None:
        return False
    if parts.scheme == "https":
        return parts.hostname in policy.redirect_hosts and parts.port in (None, 443)
    return policy.loopback and is_loopback(uri)


def is_loopback(uri: str) -> bool:
    """Whether the answer goes to a program on the person's own machine."""
    parts = _parsed(uri)
    return parts is not None and parts.scheme == "http" and parts.hostname in _LOOPBACK


def is_registered(uri: str, registered: Iterable[str]) -> bool:
    """Whether a client has this URI: exactly, or on the person's own machine with any port (RFC 8252, 7.3)."""
    return any(uri == each or _differ_by_port(uri, each) for each in registered)


def host_of(uri: str) -> str:
    """Where the answer goes, for a person."""
    parts = urlsplit(uri)
    return parts.netloc if parts.scheme in ("http", "https") else f"{parts.scheme}://{parts.netloc}"


def with_parameters(uri: str, parameters: dict[str, str | None]) -> str:
    """The URI with these parameters after its own; those that are None are left out."""
    parts = urlsplit(uri)
    given = urlencode({name: value for name, value in parameters.items() if value is not None})
    return urlunsplit(parts._replace(query=f"{parts.query}&{given}" if parts.query else given))


def _differ_by_port(uri: str, registered: str) -> bool:
    if not (is_loopback(uri) and is_loopback(registered)):
        return False
    one, other = urlsplit(uri), urlsplit(registered)
    return (one.hostname, one.path, one.query) == (other.hostname, other.path, other.query)


def _parsed(uri: str) -> SplitResult | None:
    """The parts of a URI that every parser reads alike; None for others."""
    if len(uri) > _MAX_CHARS or not _CHARACTERS.fullmatch(uri):
        return None
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        return None
    # As written: no capital letters, no user, nothing after the host but its port.
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    plain = host if parts.port is None else f"{host}:{parts.port}"
    if parts.netloc != plain or parts.fragment or uri.endswith("#") or _DOTS.search(parts.path):
        return None
    return parts
