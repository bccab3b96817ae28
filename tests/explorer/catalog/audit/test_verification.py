"""Who changes the trail with an owner's rights is found out: by the chain, or by the heads that were signed."""

import errno
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from explorer.catalog import AuditEntry, migrate
from explorer.catalog.audit import retention
from explorer.catalog.audit.chain import ChainedEntry, read_lines
from explorer.catalog.audit.heads import HeadKey, find_heads
from explorer.catalog.audit.log import AuditLog
from explorer.catalog.audit.retention import seal
from explorer.catalog.audit.verification import verify, verify_export
from explorer.catalog.errors import AuditBroken, AuditKeyInvalid
from explorer.catalog.storage.database import Database
from explorer.core.settings import Settings
from explorer.postgres.connections import Connections
from tests.explorer.catalog.conftest import blank_database

KEY = HeadKey(b"k" * 32)
Tampered = Callable[..., None]


@pytest.fixture(scope="module")
def place(connections: Connections) -> Iterator[Connections]:
    with blank_database(connections) as blank:
        migrate(blank)
        yield blank


@pytest.fixture
def log(place: Connections) -> Iterator[AuditLog]:
    """A trail of six entries; the database is shared, and what a test changes is put back."""
    database = Database(place.service)
    log = AuditLog(database)
    with owner(place) as conn:
        conn.execute("DELETE FROM audit.segments; DELETE FROM audit.entries")
        conn.execute("UPDATE audit.head SET id = 0, hash = sha256('explorer audit')")
    for number in range(3):
        log.append(
            AuditEntry("a", "query", "t:é", "ok", detail={"number": number, "text": '\\ " \u20ac'}, duration_ms=number)
        )
    log.append_all([AuditEntry("b", "query", None, "denied", code="x", detail={"n": 1.5}) for _ in range(3)])
    yield log
    database.close()


@contextmanager
def owner(place: Connections) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    """A superuser who makes himself the owner, as nothing can prevent."""
    with place.admin.connect() as conn:
        conn.execute("ALTER TABLE audit.entries DISABLE TRIGGER ALL; ALTER TABLE audit.segments DISABLE TRIGGER ALL")
        yield conn
        conn.execute("ALTER TABLE audit.entries ENABLE ALWAYS TRIGGER append_only")
        conn.execute("ALTER TABLE audit.segments ENABLE ALWAYS TRIGGER append_only")


@pytest.fixture
def tamper(place: Connections) -> Tampered:
    def tamper(*statements: str) -> None:
        with owner(place) as conn:
            for statement in statements:
                conn.execute(statement)

    return tamper


# Computes the whole chain anew, as a thorough forger would.
REWRITE = """
DO $$
DECLARE e audit.entries; last bytea := sha256('explorer audit'); n bigint := 0;
BEGIN
    FOR e IN SELECT * FROM audit.entries ORDER BY id LOOP
        n := n + 1;
        UPDATE audit.entries SET id = n, previous = last WHERE id = e.id RETURNING * INTO e;
        UPDATE audit.entries SET hash = audit.hash_of(e) WHERE id = n RETURNING hash INTO last;
    END LOOP;
    UPDATE audit.head SET id = n, hash = last;
END $$
"""


def test_what_was_not_touched_is_whole(log: AuditLog) -> None:
    found = verify(log, [KEY.sign(log.head())], KEY)
    assert (found.fault, found.entries, found.head.id, found.heads, found.unchecked) == (None, 6, 6, 1, 0)


@pytest.mark.parametrize(
    ("statements", "broken"),
    [
        (["UPDATE audit.entries SET actor = 'nobody' WHERE id = 3"], 3),
        (["UPDATE audit.entries SET at = at - interval '1 microsecond' WHERE id = 2"], 2),
        (["UPDATE audit.entries SET detail = detail || '{\"number\": 7}' WHERE id = 1"], 1),
        (["UPDATE audit.entries SET tenant_key = '' WHERE id = 4"], 4),
        (["UPDATE audit.entries SET code = NULL, outcome = 'x' WHERE id = 6"], 6),
        (["DELETE FROM audit.entries WHERE id = 4"], 5),
        (["DELETE FROM audit.entries WHERE id = 1"], 2),
        (["DELETE FROM audit.entries WHERE id = 6"], 6),
        (["UPDATE audit.entries SET id = 7 WHERE id = 6", "UPDATE audit.head SET id = 7"], 7),
        (
            [
                "UPDATE audit.entries SET actor = 'nobody' WHERE id = 3",
                "UPDATE audit.entries e SET hash = audit.hash_of(e) WHERE id = 3",
            ],
            4,
        ),
        (["UPDATE audit.entries SET actor = CASE id WHEN 2 THEN 'b' ELSE actor END, action = action"], 2),
        (["UPDATE audit.head SET hash = sha256('x')"], 6),
    ],
)
def test_the_first_broken_entry_is_told(log: AuditLog, tamper: Tampered, statements: list[str], broken: int) -> None:
    tamper(*statements)
    fault = verify(log).fault
    assert fault is not None
    assert fault.id == broken


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ("UPDATE audit.entries SET actor = 'nobody' WHERE id = 2", 6),
        ("DELETE FROM audit.entries WHERE id = 2", 6),
        ("DELETE FROM audit.entries WHERE id > 4", 5),
        ("DELETE FROM audit.entries", 1),
    ],
)
def test_a_chain_written_anew_contradicts_the_signed_head(
    log: AuditLog, tamper: Tampered, change: str, broken: int
) -> None:
    line = f"2026-01-01 10:00:00,000 INFO explorer.audit: {KEY.sign(log.head()).as_line()}\n"
    tamper(change, REWRITE)
    assert verify(log).fault is None
    fault = verify(log, find_heads(["something else\n", line]), KEY).fault
    assert fault is not None
    assert fault.id == broken


def test_heads_of_a_forger_do_not_count(log: AuditLog) -> None:
    stranger = HeadKey(b"s" * 32)
    found = verify(log, [stranger.sign(log.head())], KEY)
    assert (found.fault, found.heads, found.unchecked) == (None, 0, 1)
    bent = replace(KEY.sign(log.head()), head=replace(log.head(), id=3))
    fault = verify(log, [bent], KEY).fault
    assert fault is not None


def test_the_key_is_homes_or_the_settings(tmp_path: Path) -> None:
    made = HeadKey.load(Settings(_env_file=None, home=tmp_path))
    assert (tmp_path / "audit.key").stat().st_mode & 0o777 == 0o600
    assert HeadKey.load(Settings(_env_file=None, home=tmp_path)).fingerprint == made.fingerprint
    given = Settings(_env_file=None, home=tmp_path, audit_key=SecretStr("a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s"))
    assert HeadKey.load(given).fingerprint == KEY.fingerprint
    for bad in ("short", "k" * 60, "é"):
        with pytest.raises(AuditKeyInvalid) as refused:
            HeadKey.load(Settings(_env_file=None, home=tmp_path, audit_key=SecretStr(bad)))
        assert bad not in str(refused.value)


def test_any_number_of_processes_append_to_one_chain(place: Connections, log: AuditLog) -> None:
    def append(number: int) -> None:
        database = Database(place.service)
        for each in range(10):
            AuditLog(database).append_all([AuditEntry(f"p{number}", "query", None, "ok", detail={"n": each})] * 3)
        database.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(append, range(6)))
    found = verify(log)
    assert (found.fault, found.entries) == (None, 6 + 6 * 30)


def test_a_segment_is_exported_and_replaced_by_its_hash(
    place: Connections, log: AuditLog, tamper: Tampered, tmp_path: Path
) -> None:
    early = KEY.sign(log.head())
    assert seal(log, place.catalog, tmp_path, days=1) == []
    tamper("UPDATE audit.entries SET at = at - interval '40 days' WHERE id < 6", REWRITE)
    files = seal(log, place.catalog, tmp_path, days=30, entries=3)
    assert [(file.first_id, file.last_id, file.entries) for file in files] == [(1, 3, 3), (4, 5, 2)]
    log.append(AuditEntry("later", "query", None, "ok"))
    found = verify(log, [KEY.sign(log.head())], KEY)
    assert (found.fault, found.entries, found.sealed, found.heads) == (None, 2, 5, 1)
    with log.snapshot() as snapshot:
        segments = snapshot.segments("exported")
    with files[0].path.open("rb") as lines:
        assert verify_export(read_lines(lines), segments) == (3, None)
    text = files[0].path.read_bytes()
    for bent in (text.replace(b'"t:\xc3\xa9"', b'"t:2"', 1), b"".join(text.splitlines(keepends=True)[:2])):
        _, fault = verify_export(read_lines(bent.splitlines()), segments)
        assert fault is not None
    # The entries were changed before they were sealed: the head that was signed earlier cannot be compared, later ones can.
    assert verify(log, [early], KEY).fault is not None
    tamper("DELETE FROM audit.segments WHERE last_id = 3")
    fault = verify(log).fault
    assert fault is not None
    assert fault.id == 4


def test_what_is_broken_or_young_is_not_sealed(
    place: Connections, log: AuditLog, tamper: Tampered, tmp_path: Path
) -> None:
    head = log.head()
    with place.catalog.connect() as conn, pytest.raises(psycopg.errors.InvalidParameterValue, match="last day"):
        conn.execute("SELECT audit.seal(%s, %s, %s)", [head.id, head.hash, b"0" * 32])
    tamper("UPDATE audit.entries SET at = at - interval '40 days'")
    with pytest.raises(AuditBroken, match="Entry 1 "):
        seal(log, place.catalog, tmp_path, days=30)
    assert list(tmp_path.iterdir()) == []
    assert len(log.read()) == 6


def test_entries_leave_the_database_when_their_file_is_on_disk(
    place: Connections, log: AuditLog, tamper: Tampered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tamper("UPDATE audit.entries SET at = at - interval '40 days'", REWRITE)
    folder = tmp_path / "audit"

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for step in ("settle", "sync_folder"):
        with monkeypatch.context() as patch:
            patch.setattr(retention, step, full)
            with pytest.raises(OSError, match="No space"):
                seal(log, place.catalog, folder, days=30)
        assert len(log.read()) == 6
    assert [path.suffix for path in folder.iterdir()] == [".jsonl"]
    (file,) = seal(log, place.catalog, folder, days=30)
    assert (list(folder.iterdir()), file.path.stat().st_mode & 0o777, log.read()) == ([file.path], 0o600, [])


def test_an_export_gives_back_every_character(log: AuditLog) -> None:
    with log.snapshot() as snapshot:
        entries = list(snapshot.entries())
    assert [ChainedEntry.from_line(entry.as_line()) for entry in entries] == entries
    with pytest.raises(ValueError, match="line 2 is no entry"):
        list(read_lines([entries[0].as_line(), b"{}"]))
