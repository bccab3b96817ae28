"""A client's metadata document: fetched from its `client_id`, an https address that a stranger chose.

The name is resolved once, every address that it has must be public, and the connection goes to one that was checked. Redirects
are not followed, and the answer is small, quick and JSON.
"""

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from explorer.core.errors import ExplorerError
from explorer.core.tls import tls_context
from mcp_bridge.sign_in.clients.public_addresses import Resolve, is_public, resolve
from mcp_bridge.sign_in.freshness import fresh_s

_FETCH_S = 5.0
_MAX_BYTES = 8 * 1024
_MAX_CHARS = 500
_DOTS = re.compile(r"/(\.|%2e){1,2}(/|$)", re.IGNORECASE)


class DocumentUnusable(ExplorerError):
    """The client's document cannot be fetched, or does not describe the client."""

    code = "client_document_unusable"


@dataclass(frozen=True)
class Document:
    """What a client says of itself. `fresh_s`: seconds for which it need not be fetched again."""

    name: str
    redirect_uris: tuple[str, ...]
    fresh_s: float


class Documents:
    """Fetches documents. `transport`: another one than the network's, for tests."""

    def __init__(self, resolve_name: Resolve = resolve, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._resolve, self._transport = resolve_name, transport

    async def fetch(self, client_id: str) -> Document:
        """The document of a client whose id `is_document_url`.

        Raises:
            DocumentUnusable
        """
        try:
            async with asyncio.timeout(_FETCH_S):
                response = await self._get(client_id)
        except (TimeoutError, OSError, UnicodeError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise _unusable(f"it cannot be fetched ({type(error).__name__})") from None
        return _parsed(client_id, response)

    async def _get(self, client_id: str) -> httpx.Response:
        host = urlsplit(client_id).hostname or ""
        addresses = await self._resolve(host)
        if not addresses or not all(is_public(address) for address in addresses):
            raise _unusable("its host is not on the public internet")
        async with (
            httpx.AsyncClient(
                transport=self._transport,
                trust_env=False,
                follow_redirects=False,
                timeout=_FETCH_S,
                verify=tls_context(),
            ) as client,
            client.stream(
                "GET",
                httpx.URL(client_id).copy_with(host=addresses[0]),
                headers={"Host": host, "Accept": "application/json", "Accept-Encoding": "identity"},
                # The certificate is checked for the name, although the connection goes to a checked address.
                extensions={"sni_hostname": host},
            ) as response,
        ):
            if response.headers.get("content-encoding", "identity") != "identity":
                raise _unusable("it is compressed")
            body = b""
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MAX_BYTES:
                    raise _unusable("it is too large")
        return httpx.Response(response.status_code, headers=response.headers, content=body)


def is_document_url(client_id: str) -> bool:
    """Whether a client id is the address of a document: https, a host with a name, a path, and read by everybody alike."""
    if len(client_id) > _MAX_CHARS or not client_id.isascii() or not re.fullmatch(r"https://[!-~]+", client_id):
        return False
    try:
        parts = urlsplit(client_id)
        host = parts.hostname or ""
        if parts.port not in (None, 443):
            return False
    except ValueError:
        return False
    return (
        parts.netloc in (host, f"{host}:443")
        and re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?\.[a-z][a-z0-9-]*", host) is not None
        and len(parts.path) > 1
        and "\\" not in client_id
        and "#" not in client_id
        and not _DOTS.search(parts.path)
    )


def _parsed(client_id: str, response: httpx.Response) -> Document:
    if response.status_code != 200:
        raise _unusable(f"its address answers with status {response.status_code}")
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not (kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))):
        raise _unusable("it is no JSON")
    try:
        content = json.loads(response.content)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise _unusable("it is no JSON object")
    if content.get("client_id") != client_id:
        raise _unusable("it is the document of another client")
    name, uris = content.get("client_name"), content.get("redirect_uris")
    if not isinstance(name, str) or not name.strip():
        raise _unusable("it has no client_name")
    if not isinstance(uris, list) or not uris or not all(isinstance(uri, str) for uri in uris):
        raise _unusable("it has no redirect_uris")
    if "client_secret" in content or not _is_public_client(content):
        raise _unusable("the client wants to prove itself by a secret or a key, which this server does not use")
    return Document(name.strip(), tuple(uris), fresh_s(response.headers))


def _is_public_client(content: dict[str, Any]) -> bool:
    """Whether it can do without authentication of its own; some say so in a list beside the one that they prefer."""
    methods = content.get("token_endpoint_auth_methods_supported")
    if isinstance(methods, list) and "none" in methods:
        return True
    return content.get("token_endpoint_auth_method") in (None, "none")


def _unusable(reason: str) -> DocumentUnusable:
    return DocumentUnusable(
        f"The description that this program has published cannot be used: {reason}.",
        next_step="Try again; if it lasts, tell those who make the program.",
    )
