"""What does an OpenID issuer publish: its addresses, and the keys of its signatures? Fetched when needed, and kept for a time.

A token decides nothing about the keys: neither their address nor their algorithm. A flood of unknown key names costs the issuer
one request in half a minute.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from explorer.core.tls import tls_context
from mcp_bridge.sign_in.freshness import fresh_s
from mcp_bridge.sign_in.identity import ProviderUnavailable

T = TypeVar("T")

TIMEOUT_S = 5.0
MAX_BYTES = 256 * 1024
# Keys that cannot be fetched again still count for so long.
_STALE_S = 86_400.0
# So long nobody asks again, whatever senders invent; less where nothing was ever read.
_PAUSE_S, _FIRST_PAUSE_S = 30.0, 3.0
_MIN_RSA_BITS = 2048
# The kind of key of an algorithm, by its first letters.
_KINDS = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint")


@dataclass(frozen=True)
class _Key:
    """A published key. `algorithm`: the only one that it is for, if it says."""

    key_id: str | None
    kind: str
    algorithm: str | None
    public: Any


@dataclass(frozen=True)
class _Kept(Generic[T]):
    """Something fetched. Times of `clock`."""

    value: T
    fetched_at: float
    ends_at: float


class _Published(Generic[T]):
    """Something that an issuer publishes: fetched when needed, kept while it is fresh, and for a day where it cannot be fetched
    again. `fetch`: the value, and the seconds for which it is fresh."""

    def __init__(self, fetch: Callable[[], Awaitable[tuple[T, float]]], clock: Callable[[], float]) -> None:
        self._fetch, self._clock = fetch, clock
        self._kept: _Kept[T] | None = None
        self._tried_at = float("-inf")
        self._failure: ProviderUnavailable | None = None

    async def current(self) -> T:
        """The value. Raises: ProviderUnavailable."""
        if self._kept is not None and self._clock() < self._kept.ends_at:
            return self._kept.value
        return await self.again()

    async def again(self) -> T:
        """The value as it is published now; as it was, where that was asked a moment ago. Raises: ProviderUnavailable."""
        now = self._clock()
        if now - self._tried_at >= (_FIRST_PAUSE_S if self._kept is None else _PAUSE_S):
            self._tried_at, self._failure = now, None
            try:
                value, lifetime_s = await self._fetch()
                self._kept = _Kept(value, now, now + lifetime_s)
            except ProviderUnavailable as error:
                self._failure = error
        if self._kept is not None and now - self._kept.fetched_at <= _STALE_S:
            return self._kept.value
        # Without a failure there is a fresh value, unless the one who asked for it was cancelled.
        why = "it is being asked" if self._failure is None else self._failure.message
        raise ProviderUnavailable(why, next_step="Try again in a moment.")


class Issuer:
    """One issuer. `issuer`: letter by letter as in its tokens. `transport`: replaces the network; `clock`: seconds."""

    def __init__(
        self,
        issuer: str,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.issuer = issuer
        self._transport = transport
        self._metadata = _Published(self._discovered, clock)
        self._keys = _Published(self._fetched_keys, clock)
        self._lock = asyncio.Lock()

    async def metadata(self) -> Mapping[str, Any]:
        """The discovery document. Raises: ProviderUnavailable."""
        async with self._lock:
            return await self._metadata.current()

    async def key(self, key_id: str | None, algorithm: str) -> Any | None:
        """The public key for a signature; None when the issuer has none of that name for that algorithm.

        Raises:
            ProviderUnavailable: its keys cannot be read, and none were read within a day.
        """
        async with self._lock:
            if (found := _chosen(await self._keys.current(), key_id, algorithm)) is not None:
                return found
            # It may be new. Asked once in a while, whatever senders invent.
            return _chosen(await self._keys.again(), key_id, algorithm)

    async def request(self, method: str, url: str, **more: Any) -> tuple[int, Any]:
        """Status and JSON of an answer; None for what is no JSON. Raises: ProviderUnavailable."""
        status, _, body = await self._send(method, url, **more)
        try:
            return status, json.loads(body)
        except (ValueError, RecursionError):
            return status, None

    async def _discovered(self) -> tuple[Mapping[str, Any], float]:
        document, lifetime_s = await self._document(f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
        if document.get("issuer") != self.issuer:
            raise self._unavailable("its discovery document is of another issuer")
        for name in _ENDPOINTS:
            if name in document and not self._is_usable(document[name]):
                raise self._unavailable(f"its {name} is no https address")
        return document, lifetime_s

    async def _fetched_keys(self) -> tuple[list[_Key], float]:
        address = (await self._metadata.current()).get("jwks_uri")
        if not isinstance(address, str):
            raise self._unavailable("it names no address of its keys")
        document, lifetime_s = await self._document(address)
        keys = document.get("keys")
        if not isinstance(keys, list):
            raise self._unavailable("its keys are in another form")
        return [key for each in keys if (key := _read(each)) is not None], lifetime_s

    async def _document(self, url: str) -> tuple[dict[str, Any], float]:
        """A published JSON object, and for how long it may be kept."""
        status, headers, body = await self._send("GET", url)
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        if status != httpx.codes.OK or not isinstance(document, dict):
            raise self._unavailable(f"it answers {status} at {urlsplit(url).path}")
        return document, fresh_s(headers)

    async def _send(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> tuple[int, httpx.Headers, bytes]:
        """One request. Redirects are not followed, since what is sent is secret."""
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                httpx.AsyncClient(
                    transport=self._transport,
                    timeout=TIMEOUT_S,
                    trust_env=url.startswith("https://"),
                    verify=tls_context(),
                ) as http,
                http.stream(method, url, headers={"Accept": "application/json", **(headers or {})}, **more) as response,
            ):
                body = b""
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > MAX_BYTES:
                        raise self._unavailable("its answer is too long")
                return response.status_code, response.headers, body
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise self._unavailable(f"it does not answer ({type(error).__name__})") from None

    def _is_usable(self, url: Any) -> bool:
        """Whether an address is encrypted, or on this machine as the issuer is."""
        if not isinstance(url, str):
            return False
        try:
            mine, parts = urlsplit(self.issuer), urlsplit(url)
            if parts.username is not None or not parts.hostname or parts.port == 0:
                return False
        except ValueError:
            # A host or a port that none can be.
            return False
        return parts.scheme == "https" or (mine.scheme == "http" == parts.scheme and parts.hostname == mine.hostname)

    def _unavailable(self, why: str) -> ProviderUnavailable:
        return ProviderUnavailable(f"{self.issuer}: {why}.", next_step="Try again in a moment.")


def _read(given: Any) -> _Key | None:
    """A key for signatures, if it is one that can be trusted."""
    if not isinstance(given, dict) or given.get("use", "sig") != "sig" or given.get("kty") not in _KINDS.values():
        return None
    try:
        public = jwt.PyJWK.from_dict(given).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if isinstance(public, RSAPublicKey) and public.key_size < _MIN_RSA_BITS:
        return None
    return _Key(given.get("kid"), given["kty"], given.get("alg"), public)


def _chosen(keys: list[_Key], key_id: str | None, algorithm: str) -> Any | None:
    """The key of that name, or the only one where the token names none, if it is of the algorithm's kind."""
    kind = _KINDS.get(algorithm[:2])
    fitting = [key for key in keys if key.kind == kind and key.algorithm in (None, algorithm)]
    if key_id is not None:
        fitting = [key for key in fitting if key.key_id == key_id]
    return fitting[0].public if len(fitting) == 1 else None
