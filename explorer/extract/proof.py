"""Is a record gone that a whole read did not bring? Only the server's own word for it counts.

That a walk met as many records as the server counts proves nothing: newcomers make up for rows that a page lacked, and records
that change move under the pages. So the candidates are rows that the table had before the walk and that the walk did not bring,
and each of them is asked for. Where the API has no way to ask for one, a second whole read has to miss it too, and both have to
be without a sign that rows were left out. What is not proven is not marked, and the load says how many those are and why.
"""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec

from explorer.extract.walk import Walk
from explorer.http.client import ApiClient
from explorer.http.errors import ApiError
from explorer.registry import Source

_BULK_ENDPOINT = "bulk-fetch/"
_BULK_IDS = 1000
_AT_A_TIME = 8
# Records that could not be asked for, before the others are left for the next load.
_MAX_FAILURES = 3
_NOT_FOUND = "not found"


@dataclass
class Proof:
    """Finds out for one source which records are gone. `walk`: the whole read that has ended; `max_requests`: to ask with.

    Afterwards `missing` tells how many records of the table did not come, `present` how many of them the server has all the same,
    `open` how many could be neither found nor proven to be gone, and `why` why.
    """

    client: ApiClient
    source: Source
    walk: Walk
    max_requests: int
    missing: int = 0
    present: int = 0
    open: int = 0
    why: str | None = None
    _failures: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def reads_again(self) -> bool:
        """Whether a second read is the proof, because records cannot be asked for."""
        return self.source.proof == "walks"

    @property
    def limit(self) -> int:
        """How many records can be asked for; one request is for a record that is known to be there."""
        return self.max_requests * _BULK_IDS if self.source.proof == "bulk" else max(0, self.max_requests - 1)

    def refuse(self, missing: int, why: str) -> None:
        """Nothing of `missing` records was proven."""
        self.missing, self.open, self.why = missing, missing, why

    def ask(self, missing: Sequence[str], known: str | None) -> list[str]:
        """Those of `missing` (ids, at most `limit`) that the server says it does not have. Does not raise.

        `known`: a record that the walk brought. It has to be found in the same way: else the way leads nowhere, and what it does
        not find is not gone.
        """
        self.missing = len(missing)
        gone = self._ask_many(missing, known) if self.source.proof == "bulk" else self._ask_singly(missing, known)
        self.open = self.missing - self.present - len(gone)
        if self.open:
            self.why = self._failures[0] if self._failures else "the server's answers do not tell"
        return gone

    def read_again(self) -> Iterator[list[str]]:
        """The ids of a second read, to be taken as there. What is still missing then is gone if `agrees()`. Does not raise."""
        again = Walk(self.client, self.source, values=self.walk.values)
        try:
            for batch in again.batches():
                yield [row.id for row in batch.rows]
        except ApiError as error:
            self._failures.append(f"the second read failed: {error.message}")
            return
        self._failures += _doubts(self.walk, again)

    def agrees(self, missing: int) -> bool:
        """Whether both reads are fit to prove that `missing` records are gone."""
        if self._failures:
            self.refuse(missing, self._failures[0])
        else:
            self.missing = missing
        return not self._failures

    def _ask_singly(self, missing: Sequence[str], known: str | None) -> list[str]:
        if known is not None and self._is_there(known) is not True:
            self._failures.append("a record that the read brought is not found when it is asked for alone")
            return []
        width = min(_AT_A_TIME, self.client.limiter.allowed_parallelism(self.client.last_request_s))
        with ThreadPoolExecutor(width, thread_name_prefix="proof") as threads:
            found = list(threads.map(self._is_there, missing))
        self.present = sum(is_there is True for is_there in found)
        return [identity for identity, is_there in zip(missing, found, strict=True) if is_there is False]

    def _is_there(self, identity: str) -> bool | None:
        """None: not asked, or the answer does not tell."""
        if len(self._failures) >= _MAX_FAILURES or identity.strip(".") == "":
            return None
        endpoint = f"{self.source.endpoint}{quote(identity, safe='')}/"
        try:
            record = self.client.find(endpoint, resource=self.source.name, decode=msgspec.json.decode)
        except ApiError as error:
            with self._lock:
                self._failures.append(error.message)
            return None
        if record is None:
            return False
        # Something is there. That it is this record matters for the one that shows the way only.
        is_it = isinstance(record, dict) and str(record.get(self._key_field)) == identity
        return True if is_it else None

    @property
    def _key_field(self) -> str:
        fields = {column: name for name, column in self.source.rename.items()}
        return fields.get(self.source.primary_key, self.source.primary_key)

    def _ask_many(self, missing: Sequence[str], known: str | None) -> list[str]:
        gone: list[str] = []
        size = _BULK_IDS - 1
        for start in range(0, len(missing), size):
            part = missing[start : start + size]
            try:
                answers = self._fetch([known, *part] if known is not None else part)
            except ApiError as error:
                self._failures.append(error.message)
                return gone
            if known is not None and answers.get(known) is not True:
                self._failures.append("a record that the read brought is not found when it is asked for by its id")
                return gone
            self.present += sum(answers.get(identity) is True for identity in part)
            gone += [identity for identity in part if answers.get(identity) is False]
        return gone

    def _fetch(self, ids: Sequence[str]) -> dict[str, bool]:
        """By id whether the record is there; ids about which the answer says something else are left out."""
        endpoint = f"{self.source.endpoint}{_BULK_ENDPOINT}"
        answer = self.client.post(endpoint, {"case_ids": list(ids)}, resource=self.source.name, decode=_decode_bulk)
        told: dict[str, bool] = {}
        for record in answer.cases:
            identity = record.get(self._key_field)
            if isinstance(identity, str) and "error" not in record:
                told[identity] = True
            elif isinstance(identity, str) and record["error"] == _NOT_FOUND:
                told.setdefault(identity, False)
        return told


class _Bulk(msgspec.Struct):
    cases: list[dict[str, Any]]


_decode_bulk = msgspec.json.Decoder(_Bulk).decode


def _doubts(first: Walk, second: Walk) -> list[str]:
    """Signs that one of two whole reads left rows out, or that they were not of the same."""
    found = []
    if not (first.seen and second.seen):
        found.append("the server sent no record at all, which may have another reason")
    if any(walk.losses.rejected for walk in (first, second)):
        found.append("records came that could not be read")
    if any(walk.short_pages for walk in (first, second)):
        found.append("a page held fewer records than it was asked for, with others behind it")
    if any(walk.window_total not in (None, walk.seen) for walk in (first, second)):
        found.append("the server counts other records than it sent")
    if first.source.paging in ("offset", "single"):
        # Places move with what comes and goes before them. The other ways go on behind the last record, whatever happens.
        if first.repeated or second.repeated or not (first.is_steady and second.is_steady):
            found.append("records moved between the pages")
        if first.fingerprint != second.fingerprint or first.window_total != second.window_total:
            found.append("two reads in a row brought different records")
    return found
