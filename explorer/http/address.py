"""Where may a tenant's requests go? Only to its own server: every address from outside is checked here.

Addresses come from operators (server, token URL) and from the server's answers (`next`). Credentials must never reach another
server.
"""

import ipaddress
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl, urljoin, urlsplit

from explorer.core.loopback import is_loopback
from explorer.http.errors import WrongServer

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Server:
    """One installation of a provider. `base`: its address without trailing slash, perhaps with a path."""

    scheme: str
    host: str
    port: int
    base: str

    @classmethod
    def parse(cls, url: str, provider: str, example_url: str) -> Self:
        """The server at `url`; a bare host name means https. `provider` and `example_url` are for errors.

        Raises:
            WrongServer: not an http(s) address, credentials inside, or plain http to a public host.
        """
        text = url.strip()
        text = text if "://" in text else f"https://{text}"
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port, parts = None, None, urlsplit("")
        if parts.scheme not in _DEFAULT_PORTS or not host or parts.query or parts.fragment:
            raise WrongServer(
                "The server's address is not a web address.", provider=provider, next_step=f"Write it as {example_url}."
            )
        if parts.username is not None or parts.password is not None:
            raise WrongServer(
                "The server's address holds a user name or password.",
                provider=provider,
                next_step="Give them as the tenant's credentials instead.",
            )
        if parts.scheme == "http" and not _is_private(host):
            raise WrongServer(
                f"{host} was given with http, which would send the credentials unencrypted.",
                provider=provider,
                next_step=f"Use https://{host}.",
            )
        return cls(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme], text.rstrip("/"))

    @property
    def is_loopback(self) -> bool:
        """Whether the server runs on this machine, without a proxy in between."""
        return is_loopback(self.host)

    def owns(self, url: str) -> bool:
        """Whether an absolute URL points to this installation. A server behind a proxy may report the wrong scheme."""
        try:
            parts = urlsplit(url)
            return parts.scheme in _DEFAULT_PORTS and parts.hostname == self.host and parts.port in (None, self.port)
        except ValueError:
            return False

    def next_params(self, url: str, link: str) -> list[tuple[str, str]] | None:
        """Query of the next page that `link` (absolute, relative or only a query) names in the answer from `url`.

        Only the query is used: host and path stay ours. None when the link leads elsewhere or has no query.
        """
        try:
            target = urljoin(url, link)
        except ValueError:
            return None
        if not self.owns(target):
            return None
        return parse_qsl(urlsplit(target).query, keep_blank_values=True) or None


def _is_private(host: str) -> bool:
    address = _ip(host)
    if address is not None:
        return address.is_private or address.is_loopback
    return "." not in host or host.endswith((".local", ".internal", ".localhost"))


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
