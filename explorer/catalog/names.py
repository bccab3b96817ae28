"""What counts as a tenant key, a CommCare server and a project space: text in, one canonical form or a typed error out.

Whether the server answers and the project space exists is asked elsewhere (`verify` of `explorer.tenants`).
"""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from explorer.catalog.errors import DomainInvalid, ServerInvalid, TenantKeyInvalid

# The installations that Dimagi runs; everything else is named by its URL.
SERVERS = {
    "www": "https://www.commcarehq.org",
    "india": "https://india.commcarehq.org",
    "eu": "https://eu.commcarehq.org",
}
# commcarehq.org only redirects, and credentials never follow a redirect.
_MOVED = {"commcarehq.org": "www.commcarehq.org"}
_DEFAULT_PORTS = {"https": 443, "http": 80}
_MAX_DOMAIN_LENGTH = 256
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
# CommCare HQ routes names of this form; new ones are stricter, old ones are not.
_DOMAIN = re.compile(r"[\w.:-]+", re.ASCII)
_HOST_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_SERVER_HELP = "Give an https URL such as https://www.commcarehq.org, or one of: www, india, eu."


def check_key(key: str) -> str:
    """The key itself, when it can be a partition key, a path segment and a command-line word.

    Raises:
        TenantKeyInvalid
    """
    # Dagster reserves "..." for ranges of partitions.
    if not _KEY.fullmatch(key) or "..." in key:
        raise TenantKeyInvalid(
            f"{_shown(key)} cannot be a tenant key.",
            next_step="Use up to 128 letters, digits and . _ : -, beginning with a letter or digit, for instance www:my-project.",
        )
    return key


def check_domain(domain: str) -> str:
    """The name of a project space without blanks around it; spelling and case are kept, the server decides what they mean.

    Raises:
        DomainInvalid
    """
    name = domain.strip()
    if not _DOMAIN.fullmatch(name) or len(name) > _MAX_DOMAIN_LENGTH or not name.strip("._:-"):
        raise DomainInvalid(
            f"{_shown(domain)} is not the name of a CommCare project space.",
            next_step="Copy the name from the address of the project: the part after /a/ (letters, digits and . _ : -).",
        )
    return name


def same_domain_key(domain: str) -> str:
    """Two names with the same key are one project space: HQ lower-cases names and reads `_` as `-`."""
    return domain.lower().replace("_", "-")


def normalize_server(server: str) -> str:
    """`scheme://host[:port]` of a CommCare server, from a URL or an alias (www, india, eu).

    http is accepted for loopback hosts only: the API key travels in a header.

    Raises:
        ServerInvalid: unreadable, not https, or with more in it than an address (user, path, query, fragment).
    """
    text = server.strip()
    if text.lower() in SERVERS:
        return SERVERS[text.lower()]
    parts, host, port = _split(text if "://" in text else f"https://{text}", server)
    if parts.username is not None or parts.password is not None:
        raise ServerInvalid(
            "The server's URL contains a user or password.", next_step="Give them as credentials instead."
        )
    if parts.path.strip("/") or parts.query or parts.fragment or "?" in text or "#" in text:
        raise ServerInvalid(
            f"{_shown(server)} is more than the address of a server.",
            next_step="Leave out everything after the host; the project space is given by its own name.",
        )
    if parts.scheme == "http" and not is_loopback(host):
        raise ServerInvalid(
            f"{_shown(server)} is not encrypted, and the credentials would travel in the clear.",
            next_step="Use https; plain http is allowed for this machine only.",
        )
    host = _MOVED.get(host, host)
    shown_host = f"[{host}]" if ":" in host else host
    suffix = "" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}"
    return f"{parts.scheme}://{shown_host}{suffix}"


def is_loopback(host: str) -> bool:
    """Whether `host` (name or address, no brackets) always means this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split(text: str, original: str) -> tuple[SplitResult, str, int | None]:
    unreadable = ServerInvalid(f"{_shown(original)} is not the URL of a server.", next_step=_SERVER_HELP)
    # urlsplit drops tabs and line breaks silently; browsers read a backslash as a slash.
    if not text.isprintable() or any(char.isspace() or char == "\\" for char in text):
        raise unreadable
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise unreadable from None
    host = _ascii_host(parts.hostname or "")
    if parts.scheme not in _DEFAULT_PORTS or not host or port == 0 or parts.netloc.endswith(":"):
        raise unreadable
    return parts, host, port


def _ascii_host(host: str) -> str:
    """Lower-case ASCII form of a host name or address; empty when it is neither."""
    if ":" in host:
        if "%" in host:
            return ""
        try:
            return ipaddress.IPv6Address(host).compressed
        except ValueError:
            return ""
    try:
        name = host.encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError:
        return ""
    return name if len(name) <= 253 and all(_HOST_LABEL.fullmatch(label) for label in name.split(".")) else ""


def _shown(text: str) -> str:
    """The refused text, short, printable, and without what may be a password."""
    return repr(re.sub(r"[^/]*@", "***@", text)[:80])
