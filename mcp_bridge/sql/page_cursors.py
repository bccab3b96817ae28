"""Signed cursors for the pages of a result, without state on the server.

A cursor contains an offset and an expiry. The signature binds it to principal, tenant, statement and version of the data.
Only the holder of the key can make one, and a caller cannot use another caller's cursor. Each page runs the statement again,
so a paged statement needs an ORDER BY over a unique key; the tool that issues the cursor tells the caller so.
"""

import base64
import binascii
import hashlib
import hmac
import json
import struct
import time
from dataclasses import dataclass

from explorer.core.errors import ExplorerError

MIN_KEY_BYTES = 32
_VERSION = 1
_HEAD = struct.Struct(">BQQ16s")  # version, offset, expiry (seconds of the epoch), digest of the data's version
_MAC_BYTES = 32
_TOKEN_CHARS = len(base64.urlsafe_b64encode(b"x" * (_HEAD.size + _MAC_BYTES)).rstrip(b"="))


class CursorRefused(ExplorerError):
    """The cursor cannot be used; ask for the first page."""

    code = "cursor_invalid"


class CursorExpired(CursorRefused):
    """The cursor was valid, but it has expired or the data has changed since."""

    code = "cursor_expired"


@dataclass(frozen=True, slots=True)
class PageBinding:
    """The values that a cursor is bound to. `data_version` changes whenever the tenant's tables do (the id of the run that
    filled them).
    """

    principal: str
    tenant: str
    statement: str
    data_version: str


class PageCursors:
    """Issues and reads page cursors with one key (at least 32 random bytes, shared by all replicas)."""

    def __init__(self, key: bytes, *, lifetime_s: int = 3600) -> None:
        if len(key) < MIN_KEY_BYTES:
            raise ValueError(f"the key for page cursors needs at least {MIN_KEY_BYTES} bytes")
        self._key = key
        self._lifetime_s = lifetime_s

    def __repr__(self) -> str:
        return f"PageCursors(lifetime_s={self._lifetime_s})"

    def issue(self, binding: PageBinding, offset: int, *, now_s: float | None = None) -> str:
        """A URL-safe token for the page that begins after `offset` rows."""
        expiry = int(now_s if now_s is not None else time.time()) + self._lifetime_s
        head = _HEAD.pack(_VERSION, offset, expiry, _version_digest(binding))
        return base64.urlsafe_b64encode(head + self._sign(head, binding)).rstrip(b"=").decode()

    def offset(self, token: str, binding: PageBinding, *, now_s: float | None = None) -> int:
        """The offset in `token`. Raises `CursorRefused` (forged, damaged, of another caller) or `CursorExpired`."""
        head, mac = _split(token)
        version, offset, expiry, data_version = _HEAD.unpack(head)
        if version != _VERSION or not hmac.compare_digest(mac, self._sign(head, binding)):
            raise _refused()
        if expiry < (now_s if now_s is not None else time.time()):
            raise CursorExpired("The cursor is too old.", next_step="Run the query again without a cursor.")
        if not hmac.compare_digest(data_version, _version_digest(binding)):
            raise CursorExpired(
                "The data was refreshed since the page before: the pages would not fit together.",
                next_step="Run the query again without a cursor.",
            )
        return int(offset)

    def _sign(self, head: bytes, binding: PageBinding) -> bytes:
        # JSON, so that ("ab", "c") and ("a", "bc") are different messages.
        bound = json.dumps([binding.principal, binding.tenant, binding.statement], ensure_ascii=True).encode()
        return hmac.new(self._key, b"explorer.sql.page\x00" + head + bound, hashlib.sha256).digest()


def _version_digest(binding: PageBinding) -> bytes:
    return hashlib.sha256(binding.data_version.encode()).digest()[:16]


def _split(token: str) -> tuple[bytes, bytes]:
    if len(token) != _TOKEN_CHARS:
        raise _refused()
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _refused() from None
    return raw[: _HEAD.size], raw[_HEAD.size :]


def _refused() -> CursorRefused:
    return CursorRefused(
        "The cursor does not belong to this caller, tenant and statement, or it is damaged.",
        next_step="Send the same statement with the cursor of its last page, or none to start again.",
    )
