"""Is the trail whole, from its first segment to its newest entry, and as the signed heads of a log say?"""

from collections.abc import Iterable
from dataclasses import dataclass

from explorer.catalog.audit.chain import GENESIS, ChainedEntry, Fault, Segment, contradiction, follow
from explorer.catalog.audit.heads import Head, HeadKey, SignedHead
from explorer.catalog.audit.log import AuditLog

_Expected = dict[int, list[tuple[bytes, str]]]


@dataclass(frozen=True)
class Verification:
    """What was found. `entries`: good ones, up to the fault; `sealed`: entries that exported segments hold; `heads`: signed heads
    that were compared; `unchecked`: those of other keys, or of entries inside exported segments."""

    entries: int
    sealed: int
    head: Head
    heads: int
    unchecked: int
    fault: Fault | None


def verify(log: AuditLog, heads: Iterable[SignedHead] = (), key: HeadKey | None = None) -> Verification:
    """Follow the whole chain; with `heads` and their `key`, also compare it with them."""
    signed = list(heads)
    known = [head for head in signed if key is not None and head.key == key.fingerprint]
    forged = next((head for head in known if key is not None and not key.has_signed(head)), None)
    with log.snapshot() as snapshot:
        exported, head = snapshot.segments("exported"), snapshot.head()
        expected = _expected(known, snapshot.segments("taken_over"))
        fault, last_id, start = _follow_segments(exported, expected)
        followed = follow(() if fault else snapshot.entries(last_id), start, last_id, expected)
    fault = fault or followed.fault or _fault_at_end(followed.last_id, followed.hash, head, expected)
    if fault is None and forged is not None:
        fault = Fault(forged.head.id, "a line of the log that tells of it has a wrong signature")
    inside = [head for head in known if head.head.id < last_id and head.head.id not in {s.last_id for s in exported}]
    sealed = sum(segment.entries for segment in exported)
    unchecked = len(signed) - len(known) + len(inside)
    return Verification(followed.entries, sealed, head, len(signed) - unchecked, unchecked, fault)


def verify_export(entries: Iterable[ChainedEntry], segments: Iterable[Segment]) -> tuple[int, Fault | None]:
    """Follow the chain of an exported file, whose first entry is believed unless a segment begins there. Returns the number of
    good entries and the fault."""
    rows = iter(entries)
    first = next(rows, None)
    if first is None:
        return 0, None
    of_segment = next((segment for segment in segments if segment.first_id == first.id), None)
    expected = {of_segment.last_id: [(of_segment.hash, "its segment")]} if of_segment else {}
    start = of_segment.previous if of_segment else first.previous
    begun = follow([first], start, expected=expected)
    if begun.fault:
        return 0, begun.fault
    followed = follow(rows, begun.hash, first.id, expected)
    if followed.fault is None and of_segment and followed.last_id < of_segment.last_id:
        return 1 + followed.entries, Fault(followed.last_id + 1, "the file ends before its segment does")
    return 1 + followed.entries, followed.fault


def _expected(heads: Iterable[SignedHead], taken_over: Iterable[Segment]) -> _Expected:
    expected: _Expected = {}
    for segment in taken_over:
        expected.setdefault(segment.last_id, []).append((segment.hash, "the record of the first segment"))
    for signed in heads:
        source = f"the head signed at {signed.at:%Y-%m-%d %H:%M:%S} UTC"
        expected.setdefault(signed.head.id, []).append((signed.head.hash, source))
    return expected


def _follow_segments(segments: Iterable[Segment], expected: _Expected) -> tuple[Fault | None, int, bytes]:
    last_id, previous = 0, GENESIS
    for segment in segments:
        reason = None if segment.previous == previous else "its exported segment does not follow the one before"
        if reason:
            return Fault(segment.first_id, reason), last_id, previous
        reason = contradiction(expected, segment.last_id, segment.hash)
        if reason:
            return Fault(segment.last_id, reason), last_id, previous
        last_id, previous = segment.last_id, segment.hash
    return None, last_id, previous


def _fault_at_end(last_id: int, last_hash: bytes, head: Head, expected: _Expected) -> Fault | None:
    beyond = min((id_ for id_ in expected if id_ > last_id), default=None)
    if head.id != last_id or beyond is not None:
        said = expected[beyond][0][1] if beyond is not None else "the head in the database"
        return Fault(last_id + 1, f"it is missing: {said} tells of entry {beyond or head.id}")
    return None if head.hash == last_hash else Fault(last_id, "the head in the database does not fit it")
