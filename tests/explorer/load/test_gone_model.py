"""Whatever happens during an extract, a marked record is always gone; and without changes every gone record gets marked.

Random pages, arrivals, deletions and changes between any two requests, faults and answers that lie: a model of
the server behind the real client, extract, proof and table.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from explorer.extract.extract import Extract
from explorer.extract.proof import Proof
from explorer.load import row_buffer
from explorer.load.copy.job import CopyJob
from explorer.load.load_job import Destination
from explorer.load.raw.contents import RawSchema
from explorer.load.raw.rejects import RejectFile
from explorer.load.raw.rows import RowFormat
from explorer.load.raw.table import RawTable
from explorer.load.report import ResourceReport
from explorer.load.row_buffer import RowBuffer
from explorer.providers.commcare.paging import STYLES
from explorer.registry import Cursor, Source
from tests.explorer.extract.clients import client_of
from tests.explorer.extract.model_server import START, Change, Fault, ModelServer

# Ways of reading, each with a way of proof.
KINDS: list[tuple[Any, Any]] = [
    ("cursor", "bulk"),
    ("cursor", "record"),
    ("indexed_on", "record"),
    ("offset", "record"),
    ("link", "record"),
    ("offset", "walks"),
    ("link", "walks"),
]
NAMES = st.integers(0, 24).map(lambda number: f"r{number:02}")
CHANGES = st.dictionaries(
    st.integers(0, 25),
    st.lists(st.tuples(st.sampled_from(["update", "insert", "delete", "delete"]), NAMES), max_size=3),
    max_size=8,
)
TRUE_FAULTS = st.sampled_from(["500", "429", "truncated", "cut"])
LIES = st.sampled_from(["lacking", "empty", "count"])


def source_of(paging: Any, proof: Any, page_size: int) -> Source:
    keys: Any = {"record_id": "text", "indexed_on": "timestamp"}
    return Source(
        name="things", table="raw_things", description="", endpoint="things/", paging=paging, keys=keys, proof=proof,
        collection="cases" if paging == "cursor" else "objects", primary_key="record_id", rename={"id": "record_id"},
        page_size=page_size, load="copy", cursor=Cursor(field="indexed_on") if paging in ("cursor", "indexed_on") else None,
    )  # fmt: skip


@dataclass
class Table:
    """A raw table in a real database, and whole loads into it."""

    tenant: Any
    folder: Path

    def __post_init__(self) -> None:
        self.schema = RawSchema(self.tenant.names)
        self.connection = self.tenant.rw.connect(autocommit=True)
        self.schema.open(self.connection, [RawTable.of_source(source_of("offset", "walks", 2))], "run")

    def clear(self) -> None:
        raw = self.tenant.names.raw
        self.connection.execute(f"TRUNCATE {raw}.raw_things, {raw}._explorer_cursors")

    def load(self, server: ModelServer, source: Source, *, max_requests: int = 100) -> ResourceReport:
        with client_of(server, 2) as client:
            table = RawTable.of_source(source)
            contents = self.schema.open(self.connection, [table], "run")
            extract, report = Extract(client, source, STYLES), ResourceReport()
            buffer = RowBuffer(
                extract, RowFormat(source.keys, source.primary_key, "run", contents.moment).pack,
                RejectFile(self.folder, "run", contents.moment), on_batch=lambda _: None, on_end=lambda: None,
            )  # fmt: skip
            destination = Destination(self.schema, contents, table, "run")
            proof = Proof(extract, max_requests)
            job = CopyJob(destination, buffer, report, None, proof, lambda: None, lambda: None)
            buffer.start(lambda: None)
            if job.needs_write(self.connection):
                job.write(partial(self.tenant.rw.connect, autocommit=True))
            buffer.join(10)
        return report

    def names(self, condition: str) -> set[str]:
        rows = self.connection.execute(f"SELECT record_id FROM {self.tenant.names.raw}.raw_things WHERE {condition}")
        return {name for (name,) in rows}

    @property
    def marked(self) -> set[str]:
        return self.names("_deleted_at IS NOT NULL")

    @property
    def live(self) -> set[str]:
        return self.names("_deleted_at IS NULL")


@pytest.fixture
def table(make_tenant: Callable[..., Any], tmp_path: Path) -> Iterator[Table]:
    made = Table(make_tenant(), tmp_path)
    yield made
    made.connection.close()


def check(table: Table, server: ModelServer, source: Source, **options: Any) -> ResourceReport:
    """One load, and the rule: what is marked was gone when the load began or went meanwhile."""
    there, server.deleted = set(server.instants), set()
    report = table.load(server, source, **options)
    assert table.marked.isdisjoint(there - server.deleted)
    return report


@pytest.mark.parametrize(("paging", "proof"), KINDS)
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_marked_is_gone_and_gone_is_marked(table: Table, paging: Any, proof: Any, data: st.DataObject) -> None:
    page_size = data.draw(st.integers(2, 7), "page size")
    kept_bytes = data.draw(st.sampled_from([200, row_buffer.MEMORY_BYTES]), "bytes kept before an extract streams")
    source = source_of(paging, proof, page_size)
    lists: Literal["offset", "link"] | None = paging if paging in ("offset", "link") else None
    instants = {
        f"r{n:02}": START + timedelta(milliseconds=n // 2) for n in range(data.draw(st.integers(1, 24), "rows"))
    }
    table.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_buffer, "MEMORY_BYTES", kept_bytes)
        patch.setattr(row_buffer, "CHUNK_BYTES", kept_bytes)
        check(table, ModelServer(instants, lists=lists), source)
        for _ in range(data.draw(st.integers(1, 3), "loads")):
            changes: dict[int, list[Change]] = data.draw(CHANGES, "changes")
            faults: dict[int, Fault] = data.draw(st.dictionaries(st.integers(0, 30), TRUE_FAULTS, max_size=4), "faults")
            # One and the same lie in both reads cannot be told from a deletion where records cannot be asked for.
            most_lies = 1 if proof == "walks" else 6
            faults |= data.draw(st.dictionaries(st.integers(0, 30), LIES, max_size=most_lies), "lies")
            server = ModelServer(instants, changes, faults, lists=lists, is_behind=True)
            check(table, server, source, max_requests=data.draw(st.sampled_from([3, 100]), "requests"))
        # Nothing moves any more.
        for _ in range(2):
            report = check(table, ModelServer(instants, lists=lists), source)
    if instants or proof != "walks":
        assert table.live == instants.keys()
        assert report.rows_missing == 0
