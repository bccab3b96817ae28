"""Signed cursors of lists. A cursor is valid only for the tool, caller, tenant and arguments that it was issued for.

A tool uses plain places, such as the last name of a page; the gate seals and opens them. Pages of SQL results have their own
cursors, which also contain the version of the data (`sql.page_cursors`).
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from mcp_bridge.answers.envelope import InvalidCursor

# Enough for a place of 200 characters in any language.
MAX_CHARS = 1200
_MAC_BYTES = 16
# The size and the format of pages may change from page to page. The tenant is bound separately.
MAY_CHANGE = frozenset({"cursor", "limit", "response_format", "tenant"})


class ListCursors:
    """Seals and opens places with one key, which all replicas share."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, place: str, tool: str, caller: str, tenant: str | None, arguments: Mapping[str, Any]) -> str:
        """The cursor for `place`. `arguments`: JSON values."""
        said = place.encode("utf-8", "surrogatepass")
        return base64.urlsafe_b64encode(self._sign(said, tool, caller, tenant, arguments) + said).rstrip(b"=").decode()

    def place(self, cursor: str, tool: str, caller: str, tenant: str | None, arguments: Mapping[str, Any]) -> str:
        """The place in `cursor`.

        Raises:
            InvalidCursor: it was issued by another tool, for another caller, tenant or other arguments, or is forged.
        """
        try:
            raw = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        mac, said = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        # Accept only one spelling of a cursor: the last base64 character may have unused bits.
        spelt = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
        if spelt != cursor or not hmac.compare_digest(mac, self._sign(said, tool, caller, tenant, arguments)):
            raise InvalidCursor(
                f"That is no cursor that {tool} gave for these arguments.",
                next_step="Send next_cursor of the page before with the same arguments, or no cursor to start again.",
            )
        return said.decode("utf-8", "surrogatepass")

    def _sign(self, said: bytes, tool: str, caller: str, tenant: str | None, arguments: Mapping[str, Any]) -> bytes:
        same = {name: value for name, value in arguments.items() if name not in MAY_CHANGE}
        bound = json.dumps([tool, caller, tenant, same], sort_keys=True).encode()
        return hmac.new(self._key, b"explorer.list.page\x00" + bound + b"\x00" + said, hashlib.sha256).digest()[
            :_MAC_BYTES
        ]
