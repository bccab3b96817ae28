"""How does JSON text become text that Postgres can hold?"""

import re
from codecs import getincrementaldecoder

_REPLACEMENT = b"\\ufffd"
_CACHED_BYTES = 16 * 1024
# Bytes that may encode something that Postgres cannot hold.
_SUSPECT = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_BAD = re.compile(rb"\\u(?:0000|[dD][89a-fA-F][0-9a-fA-F]{2})")
_ESCAPE_BYTES = 6
_BACKSLASH = ord("\\")


def repair_text(body: bytes) -> tuple[bytes, int]:
    """The JSON text that Postgres can hold, and the number of replaced characters."""
    repaired = 0
    if not body.isascii() and not _is_utf8(body):
        text = body.decode("utf-8", "replace")
        repaired += text.count("\ufffd") - body.count("\ufffd".encode())
        body = text.encode("utf-8")
    found = _unfit_escapes(body)
    if found:
        parts: list[bytes] = []
        start = 0
        for at in found:
            parts += (body[start:at], _REPLACEMENT)
            start = at + _ESCAPE_BYTES
        body = b"".join((*parts, body[start:]))
    return body, repaired + len(found)


def _is_utf8(body: bytes) -> bool:
    # In pieces, which takes a sixth of the time: a whole page does not fit into the processor's cache.
    decode, whole = getincrementaldecoder("utf-8")().decode, memoryview(body)
    try:
        for start in range(0, len(body), _CACHED_BYTES):
            decode(whole[start : start + _CACHED_BYTES])
        decode(b"", True)
    except UnicodeDecodeError:
        return False
    return True


def _unfit_escapes(body: bytes) -> list[int]:
    """Positions of escaped NULs and lone surrogates. Pages hold next to none, so only candidates are examined."""
    found, end = [], 0
    for suspect in _SUSPECT.finditer(body):
        at = before = suspect.start()
        while before and body[before - 1] == _BACKSLASH:
            before -= 1
        is_escaped = (at - before) % 2
        if at < end or is_escaped:
            continue
        if _PAIR.match(body, at):
            end = at + 2 * _ESCAPE_BYTES
        elif _BAD.match(body, at):
            found.append(at)
    return found
