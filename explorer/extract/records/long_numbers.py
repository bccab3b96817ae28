"""Does a record hold a number that Postgres cannot store? A quick test of the text first, an exact one if that finds
something."""

import json
from decimal import Decimal, InvalidOperation

# numeric: up to 131,072 digits before and 16,383 after the point (PostgreSQL manual, 8.1).
NUMBER_MAX_DIGITS = 131_000
NUMBER_MAX_SCALE = 16_000

# Maps digits to 0, E to e and drops signs: an exponent of five digits, or a very long number, becomes a substring search.
_NUMBER_SHAPE = bytes(ord("0") if chr(b).isdigit() else ord("e") if b in b"eE" else b for b in range(256))
_LONG_EXPONENT, _LONG_NUMBER = b"0e00000", b"0" * 1000
# How many digits before an exponent are searched for the number's beginning; beyond that it counts as a long number.
_NUMBER_LOOKED_AT = 64
_BEFORE_A_NUMBER = b":,[ \t\r\n"


def may_hold_long_number(text: bytes) -> bool:
    """Quick test: whether JSON text, of one record or of a page, may hold a number that Postgres cannot store."""
    shape = text.translate(_NUMBER_SHAPE, b"+-")
    found = shape.find(_LONG_EXPONENT)
    while found >= 0:
        # Hexadecimal ids look the same, but follow a quote or a letter.
        before = shape[max(0, found - _NUMBER_LOOKED_AT) : found].rstrip(b"0.")
        if not before or before[-1] in _BEFORE_A_NUMBER:
            return True
        found = shape.find(_LONG_EXPONENT, found + 1)
    return _LONG_NUMBER in shape


def holds_long_number(text: bytes) -> bool:
    """Exact test: whether a record's text holds such a number."""
    try:
        json.loads(text, parse_float=_check_number, parse_int=_check_number, parse_constant=_check_number)
    except (_NumberTooLong, RecursionError):
        return True
    return False


class _NumberTooLong(Exception):
    """A record holds such a number."""


def _check_number(digits: str) -> None:
    try:
        number = Decimal(digits)
    except InvalidOperation:
        raise _NumberTooLong from None
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or number.adjusted() > NUMBER_MAX_DIGITS or exponent < -NUMBER_MAX_SCALE:
        raise _NumberTooLong
