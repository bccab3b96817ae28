"""Under which addresses is the authorization server reached? All on one origin, which is the issuer's name.

The issuer is compared letter by letter by clients: it has neither a path nor a slash at its end.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from explorer.core.errors import SettingsInvalid
from explorer.core.loopback import is_loopback

PREFIX = "/oauth"
SERVER_METADATA = "/.well-known/oauth-authorization-server"
RESOURCE_METADATA = "/.well-known/oauth-protected-resource"


@dataclass(frozen=True)
class Addresses:
    """The addresses of one bridge. `issuer`: scheme, host and port; `mcp_path`: where MCP is served."""

    issuer: str
    mcp_path: str

    @classmethod
    def of(cls, base: str, mcp_path: str) -> "Addresses":
        """The addresses of the bridge whose public URL is `base`.

        Raises:
            SettingsInvalid: nobody could sign in safely there.
        """
        parts = urlsplit(base)
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise SettingsInvalid(
                f"People cannot sign in at {base}: the bridge needs a host of its own, without a path.",
                next_step="Give EXPLORER_BRIDGE_PUBLIC_URL a host name of its own, or unset EXPLORER_SIGN_IN_FILE.",
            )
        if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            raise SettingsInvalid(
                f"People cannot sign in at {base}: their tokens would travel in the clear.",
                next_step="Put a TLS proxy in front and set EXPLORER_BRIDGE_PUBLIC_URL to its https address.",
            )
        own = {"http": 80, "https": 443}.get(parts.scheme)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        port = "" if parts.port in (None, own) else f":{parts.port}"
        return cls(f"{parts.scheme}://{host}{port}", mcp_path)

    @property
    def is_secure(self) -> bool:
        """Whether it is https: then cookies are bound to the host."""
        return self.issuer.startswith("https:")

    @property
    def resource(self) -> str:
        """The resource that tokens are good for."""
        return f"{self.issuer}{self.mcp_path}"

    @property
    def resource_metadata(self) -> str:
        """Where clients read about the resource."""
        return f"{self.issuer}{RESOURCE_METADATA}{self.mcp_path}"

    def endpoint(self, name: str) -> str:
        """The address of an endpoint, such as `token`."""
        return f"{self.issuer}{PREFIX}/{name}"

    def is_resource(self, text: str) -> bool:
        """Whether a client means this resource: also with a slash at the end, as people type it."""
        return text.rstrip("/") == self.resource
