"""The catalog's first tables, and what the service login may do with them."""

from alembic import op

revision = "0001"
down_revision = None

TENANTS = """
CREATE TABLE catalog.tenants (
    id uuid PRIMARY KEY,
    key text NOT NULL,
    provider text NOT NULL,
    server text NOT NULL,
    domain text NOT NULL,
    domain_key text NOT NULL,
    display_name text NOT NULL,
    status text NOT NULL CHECK (status IN ('provisioning', 'active', 'removed')),
    created_at timestamptz NOT NULL DEFAULT now(),
    removed_at timestamptz
);
CREATE UNIQUE INDEX tenants_key ON catalog.tenants (lower(key));
CREATE UNIQUE INDEX tenants_domain ON catalog.tenants (provider, server, domain_key) WHERE status <> 'removed';
GRANT SELECT, INSERT, DELETE, UPDATE (display_name, status, removed_at) ON catalog.tenants TO explorer_service;

CREATE TABLE catalog.credentials (
    tenant_id uuid PRIMARY KEY REFERENCES catalog.tenants ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('api_key', 'oauth')),
    ciphertext bytea NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT, UPDATE, DELETE ON catalog.credentials TO explorer_service;

CREATE TABLE catalog.schemas (
    tenant_id uuid PRIMARY KEY REFERENCES catalog.tenants ON DELETE CASCADE,
    prefix text NOT NULL UNIQUE CHECK (prefix ~ '^t_[0-9a-f]{8}$'),
    state text NOT NULL CHECK (state IN ('provisioning', 'active', 'materializing', 'expired', 'teardown', 'absent')),
    state_changed_at timestamptz NOT NULL DEFAULT now(),
    last_error text,
    run_id text,
    passwords bytea,
    CHECK (state <> 'materializing' OR run_id IS NOT NULL),
    CHECK ((state = 'absent') = (passwords IS NULL))
);
GRANT SELECT, INSERT, UPDATE ON catalog.schemas TO explorer_service;
"""

DISCOVERED = """
CREATE TABLE catalog.discovered (
    tenant_id uuid NOT NULL REFERENCES catalog.tenants,
    version integer NOT NULL CHECK (version > 0),
    content_hash text NOT NULL CHECK (content_hash ~ '^[0-9a-f]{64}$'),
    structure jsonb NOT NULL,
    diff jsonb NOT NULL,
    run_id text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, version)
);
GRANT SELECT, INSERT ON catalog.discovered TO explorer_service;
"""

PRINCIPALS = """
CREATE TABLE catalog.principals (
    id uuid PRIMARY KEY,
    name text NOT NULL CHECK (name <> ''),
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);
CREATE UNIQUE INDEX principals_name ON catalog.principals (name) WHERE revoked_at IS NULL;
GRANT SELECT, INSERT, UPDATE (revoked_at) ON catalog.principals TO explorer_service;

CREATE TABLE catalog.tokens (
    id uuid PRIMARY KEY,
    principal_id uuid NOT NULL REFERENCES catalog.principals,
    token_hash bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
);
CREATE INDEX tokens_principal ON catalog.tokens (principal_id);
GRANT SELECT, INSERT, UPDATE (revoked_at, last_used_at) ON catalog.tokens TO explorer_service;

CREATE TABLE catalog.grants (
    principal_id uuid NOT NULL REFERENCES catalog.principals,
    tenant_id uuid NOT NULL REFERENCES catalog.tenants,
    scopes text[] NOT NULL CHECK (
        cardinality(scopes) > 0
        AND scopes <@ ARRAY['metadata:read', 'query:run', 'runs:launch', 'runs:cancel', 'schema:manage']
    ),
    PRIMARY KEY (principal_id, tenant_id)
);
CREATE INDEX grants_tenant ON catalog.grants (tenant_id);
GRANT SELECT, INSERT, DELETE ON catalog.grants TO explorer_service;
"""

# The service may not choose `id` and `at`, so that entries cannot be backdated.
AUDIT = """
CREATE TABLE catalog.audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    action text NOT NULL,
    tenant_key text,
    outcome text NOT NULL,
    code text,
    detail jsonb NOT NULL DEFAULT '{}',
    duration_ms integer
);
CREATE INDEX audit_actor ON catalog.audit (actor, id);
CREATE INDEX audit_tenant ON catalog.audit (tenant_key, id);
GRANT SELECT, INSERT (actor, action, tenant_key, outcome, code, detail, duration_ms) ON catalog.audit TO explorer_service;

CREATE FUNCTION catalog.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    RAISE insufficient_privilege USING MESSAGE = 'catalog.' || TG_TABLE_NAME || ' is append-only';
END
$body$;
REVOKE EXECUTE ON FUNCTION catalog.refuse_change() FROM PUBLIC;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON catalog.audit
    FOR EACH STATEMENT EXECUTE FUNCTION catalog.refuse_change();
-- ALWAYS: also where replication or a restore has turned ordinary triggers off.
ALTER TABLE catalog.audit ENABLE ALWAYS TRIGGER append_only;
"""

VERSION = "GRANT SELECT ON catalog.alembic_version TO explorer_service"


def upgrade() -> None:
    """Make the tables."""
    for statements in (TENANTS, DISCOVERED, PRINCIPALS, AUDIT, VERSION):
        op.get_bind().exec_driver_sql(statements)
