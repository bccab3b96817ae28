"""How many different ids were there, and which came again? Exact to a chance of one in millions; many of them take 16 to 32 bytes
each."""

from array import array
from collections.abc import Iterable, Sequence

# In a set of hashes they take a tenth of the time and five times the memory.
_FEW = 300_000
_MAX_FILL = 0.6


class DistinctIds:
    """A set of 64-bit hashes of ids. More than `few` are kept in one open-addressing table without objects: 2,000,000 take 32 MB,
    and 200 in a `set`."""

    def __init__(self, few: int = _FEW) -> None:
        self._most_in_set = few
        self._few: set[int] | None = set()
        self._slots = array("q")
        self._count = 0

    def __len__(self) -> int:
        return self._count if self._few is None else len(self._few)

    def add(self, ids: Sequence[str]) -> list[str]:
        """Add ids; those of them that were there already, the second of two equal ones included."""
        if self._few is None:
            return [ids[number] for number in self._add(map(hash, ids))]
        again = []
        came = set(map(hash, ids))
        if len(came) == len(ids) and self._few.isdisjoint(came):
            self._few |= came
        else:
            for identity in ids:
                if hash(identity) in self._few:
                    again.append(identity)
                self._few.add(hash(identity))
        if len(self._few) > self._most_in_set:
            few, self._few = self._few, None
            self._slots = array("q", [0]) * _slots_for(len(few))
            self._add(few)
        return again

    def _add(self, hashes: Iterable[int]) -> list[int]:
        """Add hashes; the places of those that were there."""
        again = []
        slots, mask = self._slots, len(self._slots) - 1
        limit = int(len(slots) * _MAX_FILL)
        for number, value in enumerate(hashes):
            # Zero marks a free slot.
            value = value or 1
            # The upper bits take part, or the hashes of a grown table would lie in runs.
            slot = (value ^ value >> 32) & mask
            while (there := slots[slot]) and there != value:
                slot = (slot + 1) & mask
            if there:
                again.append(number)
                continue
            slots[slot] = value
            self._count += 1
            if self._count > limit:
                self._grow()
                slots, mask = self._slots, len(self._slots) - 1
                limit = int(len(slots) * _MAX_FILL)
        return again

    def _grow(self) -> None:
        old = self._slots
        self._slots = slots = array("q", [0]) * (2 * len(old))
        mask = len(slots) - 1
        for value in old:
            if value:
                slot = (value ^ value >> 32) & mask
                while slots[slot]:
                    slot = (slot + 1) & mask
                slots[slot] = value


def _slots_for(count: int) -> int:
    """A power of two."""
    return 1 << int(count / _MAX_FILL).bit_length()
