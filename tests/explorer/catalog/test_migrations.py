from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import psycopg
import pytest

from explorer.catalog import AuditEntry, Catalog, CatalogNotReady, CatalogUnavailable, ExternalIdTaken, Keyring, migrate
from explorer.catalog.audit.verification import verify
from explorer.catalog.lifecycle.registration import Place
from explorer.catalog.migrations.run import scripts, upgrade
from explorer.catalog.storage.database import HEAD, Database
from explorer.catalog.storage.tables import audit_schema, metadata
from explorer.postgres.connections import Connections

# Table: rights on all of it, and rights on some columns.
SERVICE_RIGHTS = {
    "alembic_version": ({"SELECT"}, {}),
    "credentials": ({"SELECT", "INSERT", "UPDATE", "DELETE"}, {}),
    "discovered": ({"SELECT", "INSERT"}, {}),
    "exports": ({"SELECT", "INSERT", "DELETE"}, {"UPDATE": {"starts", "ended"}}),
    "grants": ({"SELECT", "INSERT", "DELETE"}, {}),
    "identities": (
        {"SELECT", "INSERT"},
        {"UPDATE": {"username", "tokens", "signed_in_at", "checked_at", "checking_until", "blocked_at"}},
    ),
    "launches": ({"SELECT", "INSERT", "UPDATE", "DELETE"}, {}),
    "oauth_clients": (
        {"SELECT", "INSERT", "DELETE"},
        {"UPDATE": {"name", "redirect_uris", "fresh_until", "last_used_at", "blocked_at"}},
    ),
    "oauth_codes": ({"SELECT", "INSERT", "DELETE"}, {"UPDATE": {"used_at"}}),
    "oauth_grants": (
        {"SELECT", "INSERT", "DELETE"},
        {"UPDATE": {"expires_at", "last_used_at", "revoked_at"}},
    ),
    "oauth_requests": (
        {"SELECT", "INSERT", "DELETE"},
        {"UPDATE": {"provider", "state_hash", "secret", "offered", "used_at", "expires_at", "toolsets"}},
    ),
    "oauth_tokens": ({"SELECT", "INSERT", "DELETE"}, {"UPDATE": {"rotated_at", "reissues"}}),
    "limits": ({"SELECT", "INSERT", "UPDATE", "DELETE"}, {}),
    "principals": ({"SELECT", "INSERT"}, {"UPDATE": {"revoked_at"}}),
    "provisioning": ({"SELECT", "INSERT", "DELETE"}, {"UPDATE": {"state", "run_id", "failure", "secret", "ended_at"}}),
    "quotas": ({"SELECT", "INSERT", "UPDATE", "DELETE"}, {}),
    "rates": ({"SELECT", "INSERT", "UPDATE", "DELETE"}, {}),
    "request_slots": ({"SELECT", "INSERT", "UPDATE"}, {}),
    "schemas": ({"SELECT", "INSERT", "UPDATE"}, {}),
    "semantics": ({"SELECT", "INSERT"}, {}),
    "saved_models": ({"SELECT", "INSERT"}, {}),
    "syncs": ({"SELECT", "INSERT", "UPDATE", "DELETE"}, {}),
    "tenant_requests": ({"SELECT", "INSERT"}, {"UPDATE": {"decision", "words", "decided_at"}}),
    "tenants": ({"SELECT", "INSERT", "DELETE"}, {"UPDATE": {"display_name", "status", "removed_at"}}),
    "tokens": ({"SELECT", "INSERT"}, {"UPDATE": {"revoked_at", "last_used_at"}}),
    "alerts": ({"SELECT", "INSERT", "UPDATE", "DELETE"}, {}),
    "usage": ({"SELECT", "INSERT", "UPDATE", "DELETE"}, {}),
    "workspace_members": ({"SELECT", "INSERT", "UPDATE", "DELETE"}, {}),
    "workspaces": ({"SELECT", "INSERT", "UPDATE", "DELETE"}, {}),
}


def test_head_is_the_newest_version_file() -> None:
    assert scripts().get_heads() == [HEAD]


def test_a_catalog_without_tables_is_not_ready(blank: Connections) -> None:
    with pytest.raises(CatalogNotReady) as refused:
        Database(blank.service).check_version()
    assert refused.value.code == "catalog_not_ready"
    assert "explorer up" in refused.value.next_step


def test_concurrent_migrations_make_one_catalog(blank: Connections) -> None:
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda _: migrate(blank), range(3))) == [None] * 3
    Database(blank.service).check_version()
    with blank.admin.connect() as conn:
        owners = conn.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'catalog'").fetchall()
    assert owners == [("explorer_catalog",)]


def test_a_catalog_of_the_first_version_is_brought_up_to_date(blank: Connections) -> None:
    with closing(Database(blank.catalog)) as database:
        upgrade(database, "0001")
    with blank.catalog.connect() as conn:
        conn.execute(
            "INSERT INTO catalog.tenants (id, key, provider, server, domain, domain_key, display_name, status)"
            " VALUES (gen_random_uuid(), 'www:Old_One', 'commcare', 'https://www.commcarehq.org', 'Old_One', 'old-one',"
            " 'Old one', 'active')"
        )
        for name in ("first", "deleted", "third \u00e9 \\"):
            conn.execute(
                "INSERT INTO catalog.audit (actor, action, tenant_key, outcome, detail) VALUES (%s, 'query', NULL, 'ok', %s)",
                [name, '{"rows": 1.50, "b": [1e3]}'],
            )
        conn.execute("ALTER TABLE catalog.audit DISABLE TRIGGER append_only; DELETE FROM catalog.audit WHERE id = 2")
    migrate(blank)
    with blank.service.connect() as conn:
        assert conn.execute("SELECT count(*) FROM catalog.request_slots").fetchone() == (0,)
    with Catalog(blank.service, Keyring("A" * 43)) as catalog:
        (tenant,) = catalog.tenants.list()
        assert (tenant.key, tenant.provider, tenant.external_id) == ("www:Old_One", "commcare", "Old_One")
        place = Place("www:new", "commcare", tenant.server, "old-one", "old-one", "project space")
        with pytest.raises(
            ExternalIdTaken, match="This project space is registered already, under the key www:Old_One"
        ):
            catalog.registration.check_free(place)
        catalog.audit.append(AuditEntry("new", "query", None, "ok"))
        assert [(r.id, r.entry.actor) for r in catalog.audit.read()] == [
            (4, "new"),
            (3, "third \u00e9 \\"),
            (1, "first"),
        ]
        found = verify(catalog.audit)
        assert (found.fault, found.entries, found.head.id) == (None, 3, 4)
        with catalog.audit.snapshot() as snapshot:
            (segment,) = snapshot.segments("taken_over")
    assert (segment.first_id, segment.last_id, segment.entries) == (1, 3, 2)


def test_a_newer_catalog_is_left_alone(blank: Connections) -> None:
    migrate(blank)
    with blank.catalog.connect() as conn:
        conn.execute("UPDATE catalog.alembic_version SET version_num = '9999'")
    with pytest.raises(CatalogNotReady, match="9999"):
        Database(blank.service).check_version()
    with pytest.raises(CatalogNotReady, match="newer"):
        migrate(blank)


def test_the_declared_tables_are_those_of_the_database(catalog: Catalog, connections: Connections) -> None:
    with connections.admin.connect() as conn:
        found = conn.execute(
            "SELECT table_schema, table_name, column_name FROM information_schema.columns"
            " WHERE table_schema IN ('catalog', 'audit') AND table_name <> 'alembic_version'"
        ).fetchall()
    declared = (*metadata.tables.values(), *audit_schema.tables.values())
    assert set(found) == {(table.schema, table.name, column.name) for table in declared for column in table.columns}


def test_the_service_has_these_rights_and_no_others(catalog: Catalog, connections: Connections) -> None:
    with connections.admin.connect() as conn:
        tables = conn.execute(
            "SELECT c.relname, a.privilege_type FROM pg_class c, aclexplode(c.relacl) a"
            " WHERE c.relnamespace = 'catalog'::regnamespace AND a.grantee = 'explorer_service'::regrole"
        ).fetchall()
        columns = conn.execute(
            "SELECT c.relname, x.privilege_type, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid,"
            " aclexplode(a.attacl) x WHERE c.relnamespace = 'catalog'::regnamespace AND x.grantee = 'explorer_service'::regrole"
        ).fetchall()
        others = conn.execute(
            "SELECT c.relname FROM pg_class c, aclexplode(c.relacl) a WHERE c.relnamespace = 'catalog'::regnamespace"
            " AND a.grantee NOT IN ('explorer_service'::regrole, 'explorer_catalog'::regrole)"
        ).fetchall()
    found: dict[str, tuple[set[str], dict[str, set[str]]]] = {name: (set(), {}) for name, _ in tables}
    for name, right in tables:
        found[name][0].add(right)
    for name, right, column in columns:
        found[name][1].setdefault(right, set()).add(column)
    assert found == SERVICE_RIGHTS
    assert others == []


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE catalog.mine (a int)",
        "UPDATE catalog.tokens SET token_hash = '\\x00'",
        "UPDATE catalog.tenants SET key = 'x'",
        "UPDATE catalog.discovered SET structure = '{}'",
        "DELETE FROM catalog.discovered",
        "UPDATE catalog.semantics SET content = '{}'",
        "UPDATE catalog.grants SET scopes = '{schema:manage}'",
        "UPDATE catalog.identities SET subject = 'somebody else'",
        "UPDATE catalog.provisioning SET actor = 'somebody else'",
        "UPDATE catalog.oauth_grants SET scopes = '{schema:manage}'",
        "UPDATE catalog.oauth_tokens SET expires_at = 'infinity'",
    ],
)
def test_the_service_cannot_bend_the_catalog(catalog: Catalog, connections: Connections, statement: str) -> None:
    with connections.service.connect() as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute(statement)


def test_a_database_that_is_gone_is_a_transient_error(connections: Connections) -> None:
    nowhere = replace(connections.service, port=1, options={"connect_timeout": "2"})
    with pytest.raises(CatalogUnavailable) as refused:
        Catalog(nowhere, Keyring("A" * 43)).tenants.list()
    assert connections.service.password not in str(refused.value)
