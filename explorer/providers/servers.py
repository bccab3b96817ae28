"""What is a valid server address? Text in, its canonical form or a typed error out. The same rules for all providers."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from explorer.catalog import ServerInvalid
from explorer.core.loopback import is_loopback

_DEFAULT_PORTS = {"https": 443, "http": 80}
_HOST_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


@dataclass(frozen=True)
class Servers:
    """A provider's servers. `aliases`: short names of well-known ones; `moved`: redirecting hosts and their targets;
    `tenant_noun`: the word for a tenant in texts."""

    tenant_noun: str
    aliases: Mapping[str, str] = field(default_factory=dict)
    moved: Mapping[str, str] = field(default_factory=dict)

    def normalize(self, text: str) -> str:
        """`scheme://host[:port]` of a server, from a URL or an alias.

        http is accepted for loopback hosts only: credentials travel in a header, and never follow a redirect.

        Raises:
            ServerInvalid: unreadable, not https, or more than an address (user, path, query, fragment).
        """
        given, text = text, text.strip()
        if text.lower() in self.aliases:
            return self.aliases[text.lower()]
        parts, host, port = self._split(text if "://" in text else f"https://{text}", given)
        self._check(parts, host, given, text)
        host = self.moved.get(host, host)
        shown_host = f"[{host}]" if ":" in host else host
        suffix = "" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}"
        return f"{parts.scheme}://{shown_host}{suffix}"

    def _check(self, parts: SplitResult, host: str, given: str, text: str) -> None:
        if parts.username is not None or parts.password is not None:
            raise ServerInvalid(
                "The server's URL contains a user or password.", next_step="Give them as credentials instead."
            )
        if parts.path.strip("/") or parts.query or parts.fragment or "?" in text or "#" in text:
            raise ServerInvalid(
                f"{shown(given)} is more than the address of a server.",
                next_step=f"Leave out everything after the host; the {self.tenant_noun} is given by its own name.",
            )
        if parts.scheme == "http" and not is_loopback(host):
            raise ServerInvalid(
                f"{shown(given)} is not encrypted, and the credentials would travel in the clear.",
                next_step="Use https; plain http is allowed for this machine only.",
            )

    def _split(self, text: str, given: str) -> tuple[SplitResult, str, int | None]:
        unreadable = ServerInvalid(f"{shown(given)} is not the URL of a server.", next_step=self._help)
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

    @property
    def _help(self) -> str:
        example = next(iter(self.aliases.values()), "https://api.example.org")
        known = f", or one of: {', '.join(self.aliases)}" if self.aliases else ""
        return f"Give an https URL such as {example}{known}."


def shown(text: str) -> str:
    """A refused text: short, printable, and without a possible password."""
    return repr(re.sub(r"[^/]*@", "***@", text)[:80])


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
