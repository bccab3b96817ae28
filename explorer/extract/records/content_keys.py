"""Which key does a record get that has none? A hash of its text, plus a number among equal records where the source wants it."""

import hashlib
from collections import Counter

from explorer.extract.distinct import DistinctIds

_DIGEST_BYTES = 16


class ContentKey:
    """`content`: equal records are one row, however often they come."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt[:64]

    def of(self, text: bytes) -> str:
        """The key of a record with this text."""
        return hashlib.blake2b(text, digest_size=_DIGEST_BYTES, key=self._salt).hexdigest()


class Occurrences:
    """How often each key occurred in one extract."""

    def __init__(self) -> None:
        self._known = DistinctIds()
        self._again = Counter[str]()

    def note(self, key: str) -> int:
        """How many equal keys came before this one."""
        if self._known.add((key,)):
            self._again[key] += 1
        return self._again.get(key, 0)


class OccurrenceKey:
    """`occurrence`: equal records stay separate rows; the n-th one gets the same key in every extract. Only for pages that
    return each record once."""

    def __init__(self, salt: bytes, occurrences: Occurrences) -> None:
        self._salt = hashlib.blake2b(salt, digest_size=32).digest()
        self._occurrences = occurrences

    def of(self, text: bytes) -> str:
        """The key of the next record with this text."""
        key = hashlib.blake2b(text, digest_size=_DIGEST_BYTES, key=self._salt).hexdigest()
        before = self._occurrences.note(key)
        return f"{key}-{before}" if before else key
