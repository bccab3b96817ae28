"""Is the audit trail as it was written? Each entry holds the hash of the one before.

`postgres/audit.sql` computes the same hashes.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

import msgspec

# The hash before the first entry.
GENESIS = hashlib.sha256(b"explorer audit").digest()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Line(msgspec.Struct):
    """A line of an export. `detail` stays as it is written, because the hash is over these characters."""

    id: int
    at: str
    actor: str
    action: str
    tenant_key: str | None
    outcome: str
    code: str | None
    detail: msgspec.Raw
    duration_ms: int | None
    previous: str
    hash: str


@dataclass(frozen=True)
class ChainedEntry:
    """An entry as it is stored. `detail`: JSON as the database writes it."""

    id: int
    at: datetime
    actor: str
    action: str
    tenant_key: str | None
    outcome: str
    code: str | None
    detail: str
    duration_ms: int | None
    previous: bytes
    hash: bytes

    def hash_after(self, previous: bytes) -> bytes:
        """The hash that the entry must have when the one before has `previous`."""
        at_us = (self.at - _EPOCH) // timedelta(microseconds=1)
        fields = (
            self.id, at_us, self.actor, self.action, self.tenant_key, self.outcome, self.code, self.detail, self.duration_ms,
        )  # fmt: skip
        return hashlib.sha256(previous + b"".join(map(_field, fields))).digest()

    def as_line(self) -> bytes:
        """One line of JSON, with its end, from which `from_line` makes the same entry."""
        line = _Line(
            self.id,
            self.at.astimezone(UTC).isoformat(timespec="microseconds"),
            self.actor,
            self.action,
            self.tenant_key,
            self.outcome,
            self.code,
            msgspec.Raw(self.detail.encode()),
            self.duration_ms,
            self.previous.hex(),
            self.hash.hex(),
        )
        return msgspec.json.encode(line) + b"\n"

    @classmethod
    def from_line(cls, text: bytes) -> Self:
        """Raises: ValueError: the line is no entry."""
        line = msgspec.json.decode(text, type=_Line)
        return cls(
            line.id, datetime.fromisoformat(line.at), line.actor, line.action, line.tenant_key, line.outcome, line.code,
            bytes(line.detail).decode(), line.duration_ms, bytes.fromhex(line.previous), bytes.fromhex(line.hash),
        )  # fmt: skip


@dataclass(frozen=True)
class Segment:
    """A closed range of entries. `kind`: `exported` (they are in a file of this SHA-256 only) or `taken_over` (they were written
    before entries were chained). `previous`, `hash`: of the entry before and of the last one."""

    kind: str
    first_id: int
    last_id: int
    first_at: datetime
    last_at: datetime
    entries: int
    previous: bytes
    hash: bytes
    file_sha256: bytes | None


@dataclass(frozen=True)
class Fault:
    """The first place at which the trail is not as it was written: the id of the entry, and what is wrong with it."""

    id: int
    reason: str


@dataclass(frozen=True)
class Followed:
    """A chain up to its end or its first fault: number of good entries, id and hash of the last of them."""

    entries: int
    last_id: int
    hash: bytes
    fault: Fault | None


# Hashes that entries must have, by id; each with who says so.
Expected = Mapping[int, Sequence[tuple[bytes, str]]]


def follow(entries: Iterable[ChainedEntry], start: bytes, last_id: int = 0, expected: Expected = {}) -> Followed:  # noqa: B006
    """Follow the chain from `start`, the hash of entry `last_id`, and stop at the first entry that is not as it was written."""
    count, previous = 0, start
    for entry in entries:
        reason = _fault_of(entry, previous) or contradiction(expected, entry.id, entry.hash)
        if reason:
            return Followed(count, last_id, previous, Fault(entry.id, reason))
        count, last_id, previous = count + 1, entry.id, entry.hash
    return Followed(count, last_id, previous, None)


def contradiction(expected: Expected, id_: int, found: bytes) -> str | None:
    """Why the entry cannot have this hash, if so."""
    said = next((source for wanted, source in expected.get(id_, ()) if wanted != found), None)
    return f"it is not the entry that {said} tells of" if said else None


def _fault_of(entry: ChainedEntry, previous: bytes) -> str | None:
    if entry.previous != previous:
        return "entries before it were removed, inserted or changed"
    return None if entry.hash_after(previous) == entry.hash else "it was changed"


def read_lines(lines: Iterable[bytes]) -> Iterator[ChainedEntry]:
    """The entries of an export. Raises: ValueError: names the first line that is none."""
    for number, line in enumerate(lines, 1):
        try:
            yield ChainedEntry.from_line(line)
        except ValueError as error:
            raise ValueError(f"line {number} is no entry: {error}") from None


def _field(value: object) -> bytes:
    """As `audit.field`: the length, then the value, so that no two sequences of fields have the same bytes."""
    if value is None:
        return b"-"
    text = str(value).encode()
    return b"%d:%s" % (len(text), text)
