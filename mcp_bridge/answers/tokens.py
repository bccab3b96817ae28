"""How many tokens does a text cost the model that reads it? An estimate, rather too high, without any model's vocabulary.

Vocabularies are megabytes that tokenizers fetch from the network, and hosts use different ones. So texts are split where
byte-pair tokenizers split them (words, three digits, signs) and each piece has a charge by its kind. The charges were fitted
to o200k_base and cl100k_base (docs/decisions/0023).
"""

import re
from bisect import bisect_right
from functools import lru_cache
from math import ceil

# A byte of a text costs at most this many tokens.
MOST_PER_BYTE = 1.1
_PIECES = re.compile(r" ?[A-Za-z0-9]+|[^\x00-\x7f]+| +|[^A-Za-z0-9 \x80-\U0010ffff]+")
_JSON_SIGNS = frozenset('"{}[]:,')
_WITHIN = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_VOWEL = re.compile(r"[aeiouy]", re.IGNORECASE)
# Letter pairs that occur in no word of the common languages. They mark an identifier, a key or a password.
_UNSPEAKABLE = re.compile(
    r"[bcdfghjklmnpqrstvwxz]{5}|[jqvxz][bcdfghjklmnpqrstvwxz]|[bcdfghjklmnpqrtvwxz][jqvxz]|q[^u]", re.IGNORECASE
)

# Tokens per character from each code point on. Characters of no line cost their number of bytes, the most they can cost.
_SCRIPTS: tuple[tuple[int, float], ...] = (
    (0x80, 1.0),  # Latin with accents
    (0x250, 2.0),  # phonetic letters, combining marks
    (0x370, 1.0),  # Greek
    (0x400, 0.7),  # Cyrillic
    (0x530, 2.0),  # Armenian
    (0x590, 1.1),  # Hebrew
    (0x600, 1.0),  # Arabic
    (0x700, 2.2),  # Syriac, Thaana, N'Ko
    (0x800, 3.0),
    (0x900, 1.2),  # Devanagari
    (0x980, 2.0),  # other Indian scripts
    (0xD80, 2.6),  # Sinhala
    (0xE00, 1.1),  # Thai
    (0xE80, 2.6),  # Lao
    (0xF00, 3.0),  # Tibetan
    (0x1000, 2.4),  # Myanmar
    (0x10A0, 3.0),  # Georgian, Hangul letters, Ethiopic, Cherokee
    (0x1780, 2.2),  # Khmer
    (0x1800, 3.0),
    (0x1E00, 1.6),  # Latin of Vietnam
    (0x1F00, 3.0),
    (0x2000, 2.0),  # dashes, quotes, direction marks
    (0x2070, 3.0),
    (0x3000, 1.3),  # Japanese punctuation and kana
    (0x3100, 3.0),
    (0x4E00, 1.7),  # Chinese characters
    (0xA000, 3.0),
    (0xAC00, 1.3),  # Hangul
    (0xD800, 3.0),
    (0x10000, 4.0),  # emoji, historic scripts
)
_STARTS = [start for start, _ in _SCRIPTS]


class _Charges(dict[str, float]):
    """Tokens of a character beyond ASCII, computed once per character."""

    def __missing__(self, char: str) -> float:
        charge = self[char] = _SCRIPTS[bisect_right(_STARTS, ord(char)) - 1][1]
        return charge


_CHARGES = _Charges()


def tokens(text: str) -> int:
    """An upper estimate of the tokens of `text`; about a third too high for English prose."""
    return ceil(sum(_of_piece(piece) if len(piece) <= _CACHED_CHARS else _of(piece) for piece in _PIECES.findall(text)))


# Longer pieces seldom occur twice.
_CACHED_CHARS = 24


def _of(piece: str) -> float:
    first = piece[0]
    if first >= "\x80":
        return sum(map(_CHARGES.__getitem__, piece))
    if piece.isspace() and first == " ":
        return 1 + len(piece) / 16
    if first == " ":
        # A blank belongs to the word that follows it, but not to a number.
        return _of(piece[1:]) + piece[1].isdigit()
    if not first.isalnum():
        return _of_signs(piece)
    if piece.isdigit():
        return ceil(len(piece) / 3)
    parts = _WITHIN.findall(piece)
    return sum(_of_part(part, alone=len(parts) == 1) for part in parts)


def _of_signs(signs: str) -> float:
    if signs == "_":
        return 0.5
    share = 0.45 if _JSON_SIGNS.issuperset(signs) else 0.7
    return max(1.0, len(signs) * share)


_of_piece = lru_cache(maxsize=20_000)(_of)


def _of_part(part: str, *, alone: bool) -> float:
    """Tokens of digits, or of letters of one case. `alone`: no neighbours on either side, so it is probably a word."""
    length = len(part)
    if part[0].isdigit():
        return ceil(length / 3)
    if not alone and length <= 4:
        return max(1.1, length / 1.55)
    speakable = len(_VOWEL.findall(part)) * 4 >= length and not _UNSPEAKABLE.search(part)
    if speakable and length <= 24:
        return max(1.1, length / 2.7)
    return max(1.0, length / 1.6)
