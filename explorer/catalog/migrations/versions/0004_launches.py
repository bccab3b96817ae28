"""The runs that agents launched, so that several bridges launch one run per tenant and idempotency key."""

from alembic import op

revision = "0004"
down_revision = "0003"

# Unique indexes guarantee one launch in progress per tenant, and one launch per key.
LAUNCHES = """
CREATE TABLE catalog.launches (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES catalog.tenants ON DELETE CASCADE,
    pipeline text,
    idempotency_key text,
    actor text NOT NULL,
    state text NOT NULL CHECK (state IN ('launching', 'launched')),
    holder uuid NOT NULL,
    held_until timestamptz NOT NULL,
    run_id text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((state = 'launched') = (run_id IS NOT NULL))
);
CREATE UNIQUE INDEX launches_under_way ON catalog.launches (tenant_id) WHERE state = 'launching';
CREATE UNIQUE INDEX launches_key ON catalog.launches (tenant_id, idempotency_key) WHERE state = 'launched';
CREATE INDEX launches_age ON catalog.launches (tenant_id, created_at);
GRANT SELECT, INSERT, UPDATE, DELETE ON catalog.launches TO explorer_service;
"""


def upgrade() -> None:
    """Make the table."""
    op.get_bind().exec_driver_sql(LAUNCHES)
