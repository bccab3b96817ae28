"""Which of these records does the server no longer have? Asked one at a time, or many at a time."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec

from explorer.http.client import ApiClient
from explorer.http.errors import ApiError
from explorer.providers.paging import AskInBulk
from explorer.registry import Source

_AT_A_TIME = 8
# After this many failed requests the remaining records wait for the next load.
_MAX_FAILURES = 3


@dataclass
class Answers:
    """`gone`: ids that the server does not have; `present`: how many it has; `failures`: why the state of others is unknown."""

    gone: list[str] = field(default_factory=list)
    present: int = 0
    failures: list[str] = field(default_factory=list)


class SingleAsker:
    """Requests each record at its own address."""

    def __init__(self, client: ApiClient, source: Source, max_requests: int) -> None:
        self._client, self._source = client, source
        self._key_field = source.field_of(source.primary_key)
        # One request is for a record that is known to exist.
        self.limit = max(0, max_requests - 1)
        self._lock = threading.Lock()

    def ask(self, missing: Sequence[str], known: str | None) -> Answers:
        """The server's answers about `missing`; empty unless it finds `known`. Does not raise."""
        answers = Answers()
        if known is not None and self._is_there(known, answers) is not True:
            answers.failures.append("a record that the read brought is not found when it is asked for alone")
            return answers
        width = min(_AT_A_TIME, self._client.limiter.allowed_parallelism(self._client.last_request_s))
        with ThreadPoolExecutor(width, thread_name_prefix="proof") as threads:
            found = list(threads.map(lambda identity: self._is_there(identity, answers), missing))
        answers.present = sum(is_there is True for is_there in found)
        answers.gone = [identity for identity, is_there in zip(missing, found, strict=True) if is_there is False]
        return answers

    def _is_there(self, identity: str, answers: Answers) -> bool | None:
        """None: not asked, or the answer is unclear."""
        if len(answers.failures) >= _MAX_FAILURES or identity.strip(".") == "":
            return None
        endpoint = f"{self._source.endpoint}{quote(identity, safe='')}/"
        try:
            record = self._client.find(endpoint, resource=self._source.name, decode=msgspec.json.decode)
        except ApiError as error:
            with self._lock:
                answers.failures.append(error.message)
            return None
        if record is None:
            return False
        # Some record exists. Whether it is the requested one matters only for `known`, which proves that the address works.
        is_it = isinstance(record, dict) and str(record.get(self._key_field)) == identity
        return True if is_it else None


class BulkAsker:
    """Requests many records at a time."""

    def __init__(self, client: ApiClient, source: Source, kind: AskInBulk, max_requests: int) -> None:
        self._client, self._source, self._kind = client, source, kind
        self._key_field = source.field_of(source.primary_key)
        self.limit = max_requests * kind.most_ids
        struct = msgspec.defstruct("Bulk", [("records", list[dict[str, Any]])], rename={"records": kind.records})
        self._decode: Any = msgspec.json.Decoder(struct).decode

    def ask(self, missing: Sequence[str], known: str | None) -> Answers:
        """The server's answers about `missing`; empty unless it finds `known`. Does not raise."""
        answers = Answers()
        size = self._kind.most_ids - 1
        for start in range(0, len(missing), size):
            part = missing[start : start + size]
            try:
                told = self._fetch([known, *part] if known is not None else part)
            except ApiError as error:
                answers.failures.append(error.message)
                return answers
            if known is not None and told.get(known) is not True:
                answers.failures.append("a record that the read brought is not found when it is asked for by its id")
                return answers
            answers.present += sum(told.get(identity) is True for identity in part)
            answers.gone += [identity for identity in part if told.get(identity) is False]
        return answers

    def _fetch(self, ids: Sequence[str]) -> dict[str, bool]:
        """Id to whether the record exists; ids with an unclear answer are missing."""
        kind = self._kind
        endpoint = f"{self._source.endpoint}{kind.path}"
        answer = self._client.post(endpoint, {kind.ids: list(ids)}, resource=self._source.name, decode=self._decode)
        told: dict[str, bool] = {}
        for record in answer.records:
            identity = record.get(self._key_field)
            if isinstance(identity, str) and kind.error not in record:
                told[identity] = True
            elif isinstance(identity, str) and record[kind.error] == kind.not_found:
                told.setdefault(identity, False)
        return told
