"""Which key has a record that has none of its own? A hash of its text, and its number among equal ones where those count."""

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
    """How often each key came in one extract."""

    def __init__(self) -> None:
        self._known = DistinctIds()
        self._again = Counter[str]()

    def note(self, key: str) -> int:
        """How many equal ones came before."""
        if self._known.add((key,)):
            self._again[key] += 1
        return self._again.get(key, 0)


class OccurrenceKey:
    """`occurrence`: equal records stay as many rows as there are, the n-th with the same key in every extract. Which of them is
    the n-th does not matter, since they are equal. Only for pages that bring each record once."""

    def __init__(self, salt: bytes, occurrences: Occurrences) -> None:
        self._salt = hashlib.blake2b(salt, digest_size=32).digest()
        self._occurrences = occurrences

    def of(self, text: bytes) -> str:
        """The key of the next record with this text."""
        key = hashlib.blake2b(text, digest_size=_DIGEST_BYTES, key=self._salt).hexdigest()
        before = self._occurrences.note(key)
        return f"{key}-{before}" if before else key
