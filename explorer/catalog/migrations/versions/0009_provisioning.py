"""What is asked of the provisioning job, and which tenants people would like to have."""

from alembic import op

revision = "0009"
down_revision = "0008"

PROVISIONING = """
CREATE TABLE catalog.provisioning (
    id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('provision', 'teardown', 'register')),
    tenant_key text NOT NULL,
    place jsonb,
    secret bytea,
    actor text NOT NULL,
    state text NOT NULL DEFAULT 'asked' CHECK (state IN ('asked', 'working', 'done', 'failed')),
    run_id text,
    failure jsonb,
    asked_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    CHECK ((ended_at IS NOT NULL) = (state IN ('done', 'failed'))),
    CHECK ((kind = 'register') = (place IS NOT NULL)),
    CHECK (ended_at IS NULL OR secret IS NULL)
);
CREATE UNIQUE INDEX provisioning_open ON catalog.provisioning (tenant_key) WHERE ended_at IS NULL;
GRANT SELECT, INSERT, DELETE ON catalog.provisioning TO explorer_service;
GRANT UPDATE (state, run_id, failure, secret, ended_at) ON catalog.provisioning TO explorer_service;
"""

TENANT_REQUESTS = """
CREATE TABLE catalog.tenant_requests (
    id uuid PRIMARY KEY,
    provider text NOT NULL,
    server text NOT NULL,
    external_id text NOT NULL,
    title text NOT NULL,
    actor text NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT now(),
    decision text CHECK (decision IN ('approved', 'refused')),
    words text,
    decided_at timestamptz,
    UNIQUE (provider, server, external_id, actor),
    CHECK ((decision IS NULL) = (decided_at IS NULL))
);
GRANT SELECT, INSERT ON catalog.tenant_requests TO explorer_service;
GRANT UPDATE (decision, words, decided_at) ON catalog.tenant_requests TO explorer_service;
"""


def upgrade() -> None:
    """Make the tables."""
    for statements in (PROVISIONING, TENANT_REQUESTS):
        op.get_bind().exec_driver_sql(statements)
