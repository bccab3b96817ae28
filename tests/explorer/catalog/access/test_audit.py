from uuid import uuid4

import psycopg
import pytest

from explorer.catalog import AuditEntry, Catalog
from explorer.postgres.connections import Connections

TAMPERING = [
    "UPDATE catalog.audit SET actor = 'nobody'",
    "UPDATE catalog.audit SET actor = 'nobody' WHERE false",
    "DELETE FROM catalog.audit",
    "TRUNCATE catalog.audit",
    "MERGE INTO catalog.audit a USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE",
    "INSERT INTO catalog.audit (id, actor, action, outcome) OVERRIDING SYSTEM VALUE VALUES (1, 'a', 'b', 'ok')"
    " ON CONFLICT (id) DO UPDATE SET actor = 'nobody'",
]


@pytest.fixture
def actor(catalog: Catalog) -> str:
    actor = f"agent-{uuid4().hex}"
    for number in range(3):
        catalog.audit.append(
            AuditEntry(actor, "query", f"t:{number}", "ok", detail={"number": number}, duration_ms=number)
        )
    return actor


def test_entries_come_back_newest_first(catalog: Catalog, actor: str) -> None:
    records = catalog.audit.read(actor=actor, limit=2)
    assert [record.entry.duration_ms for record in records] == [2, 1]
    assert records[0].entry == AuditEntry(actor, "query", "t:2", "ok", detail={"number": 2}, duration_ms=2)
    assert records[0].at >= records[1].at
    assert [record.entry.tenant_key for record in catalog.audit.read(actor=actor, tenant="t:0")] == ["t:0"]


def test_any_text_can_be_logged(catalog: Catalog, actor: str) -> None:
    catalog.audit.append(AuditEntry(actor, "a\0b\ud800", None, "error", "x" * 9999, {"k\0": ["\udfff", float("nan")]}))
    entry = catalog.audit.read(actor=actor, limit=1)[0].entry
    assert entry.action == "a\ufffdb\ufffd"
    assert entry.detail == {"k\ufffd": ["\ufffd", None]}
    assert len(entry.code or "") == 500


@pytest.mark.parametrize("statement", TAMPERING)
@pytest.mark.parametrize("login", ["service", "catalog", "admin"])
def test_nobody_changes_the_log(
    catalog: Catalog, connections: Connections, actor: str, login: str, statement: str
) -> None:
    before = catalog.audit.read(limit=1000)
    with getattr(connections, login).connect() as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute(statement)
    assert catalog.audit.read(limit=1000) == before


def test_not_even_with_ordinary_triggers_off(catalog: Catalog, connections: Connections, actor: str) -> None:
    with connections.admin.connect() as conn:
        conn.execute("SET session_replication_role = replica")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
            conn.execute("DELETE FROM catalog.audit")


@pytest.mark.parametrize("column", ["at", "id"])
def test_the_service_cannot_backdate(catalog: Catalog, connections: Connections, column: str) -> None:
    with connections.service.connect() as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute(f"INSERT INTO catalog.audit (actor, action, outcome, {column}) VALUES ('a', 'b', 'ok', DEFAULT)")
