from uuid import uuid4

import psycopg
import pytest

from explorer.catalog import AuditEntry, Catalog
from explorer.postgres.connections import Connections

TAMPERING = [
    "UPDATE audit.entries SET actor = 'nobody'",
    "UPDATE audit.entries SET actor = 'nobody' WHERE false",
    "DELETE FROM audit.entries",
    "TRUNCATE audit.entries",
    "MERGE INTO audit.entries a USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE",
    "DELETE FROM audit.segments",
]
# What the trigger does not stop, an owner's rights would be needed for.
OF_THE_OWNER = [
    "INSERT INTO audit.entries SELECT * FROM audit.entries LIMIT 1",
    "UPDATE audit.head SET id = 0",
    "DROP TABLE audit.entries",
    "DROP SCHEMA audit CASCADE",
    "ALTER TABLE audit.entries DISABLE TRIGGER ALL",
    "ALTER TABLE audit.entries OWNER TO CURRENT_USER",
    "CREATE TABLE audit.mine (a int)",
    "CREATE OR REPLACE FUNCTION audit.refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "ALTER FUNCTION audit.append(jsonb) SET search_path = catalog",
    "GRANT explorer_audit TO CURRENT_USER",
    "SET ROLE explorer_audit",
    "SELECT audit.hash_of(e) FROM audit.entries e",
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
            conn.execute("DELETE FROM audit.entries")


@pytest.mark.parametrize("statement", OF_THE_OWNER)
@pytest.mark.parametrize("login", ["service", "catalog", "dagster"])
def test_no_login_has_an_owners_rights(
    catalog: Catalog, connections: Connections, actor: str, login: str, statement: str
) -> None:
    connection = getattr(connections, login).to(
        user=getattr(connections, login).user, password=getattr(connections, login).password, dbname="explorer"
    )
    with connection.connect() as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute(statement)


def test_the_owner_cannot_log_in(catalog: Catalog, connections: Connections) -> None:
    with connections.admin.connect() as conn:
        role = conn.execute(
            "SELECT a.rolcanlogin, a.rolpassword, a.rolsuper, ARRAY(SELECT member::regrole::text FROM pg_auth_members"
            " WHERE roleid = a.oid) FROM pg_authid a WHERE a.rolname = 'explorer_audit'"
        ).fetchone()
        owned = conn.execute(
            "SELECT DISTINCT pg_get_userbyid(owner) FROM ("
            "SELECT relowner FROM pg_class WHERE relnamespace = 'audit'::regnamespace"
            " UNION SELECT proowner FROM pg_proc WHERE pronamespace = 'audit'::regnamespace"
            " UNION SELECT nspowner FROM pg_namespace WHERE nspname = 'audit') AS o (owner)"
        ).fetchall()
        open_functions = conn.execute(
            "SELECT p.proname FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a"
            " WHERE p.pronamespace = 'audit'::regnamespace AND a.grantee = 0"
        ).fetchall()
        unpinned = conn.execute(
            "SELECT proname FROM pg_proc WHERE pronamespace = 'audit'::regnamespace AND prosecdef"
            " AND NOT 'search_path=pg_catalog, pg_temp' = ANY(coalesce(proconfig, '{}'))"
        ).fetchall()
    assert role == (False, None, False, [])
    assert owned == [("explorer_audit",)]
    assert open_functions == unpinned == []


@pytest.mark.parametrize("login", ["catalog", "dagster"])
def test_only_the_service_appends(connections: Connections, catalog: Catalog, login: str) -> None:
    chosen = getattr(connections, login)
    login_there = chosen.to(user=chosen.user, password=chosen.password, dbname="explorer")
    with login_there.connect() as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("SELECT audit.append('[]')")


def test_entries_cannot_be_dated_or_numbered(catalog: Catalog, connections: Connections, actor: str) -> None:
    """What the function does not ask for has no effect."""
    with connections.service.connect() as conn:
        given = '[{"actor": "a", "action": "b", "outcome": "ok", "at": "2001-01-01", "id": 1, "hash": "00", "previous": "00"}]'
        row = conn.execute("SELECT audit.append(%s)", [given]).fetchone()
        at = conn.execute("SELECT at > now() - interval '1 hour' FROM audit.entries WHERE id = %s", row).fetchone()
    assert at == (True,)


def test_a_shadowing_object_is_not_called(catalog: Catalog, connections: Connections) -> None:
    """The function's search path is its own."""
    with connections.service.connect() as conn:
        conn.execute("CREATE TEMP TABLE entries (a int); CREATE TEMP TABLE head (id bigint, hash bytea)")
        conn.execute("CREATE FUNCTION pg_temp.sha256(bytea) RETURNS bytea LANGUAGE sql AS 'SELECT ''ab''::bytea'")
        conn.execute("SET search_path = pg_temp, pg_catalog")
        row = conn.execute('SELECT audit.append(\'[{"actor": "a", "action": "b", "outcome": "ok"}]\')').fetchone()
        found = conn.execute("SELECT octet_length(hash) FROM audit.entries WHERE id = %s", row).fetchone()
        conn.rollback()
    assert found == (32,)
