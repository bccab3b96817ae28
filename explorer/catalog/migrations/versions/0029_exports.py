"""Links by which results are downloaded, each with the right that it carries."""

from alembic import op

revision = "0029"
down_revision = "0032"

EXPORTS = """
CREATE TABLE catalog.exports (
    id uuid PRIMARY KEY,
    link_hash bytea NOT NULL UNIQUE,
    tenant_id uuid NOT NULL REFERENCES catalog.tenants ON DELETE CASCADE,
    principal_id uuid NOT NULL REFERENCES catalog.principals ON DELETE CASCADE,
    format text NOT NULL,
    statement_sha256 text NOT NULL,
    versions jsonb NOT NULL,
    sealed bytea NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    starts integer NOT NULL DEFAULT 0 CHECK (starts >= 0),
    ended jsonb
);
CREATE INDEX exports_age ON catalog.exports (expires_at);
CREATE INDEX exports_tenant ON catalog.exports (tenant_id);
CREATE INDEX exports_principal ON catalog.exports (principal_id);
GRANT SELECT, INSERT, DELETE ON catalog.exports TO explorer_service;
GRANT UPDATE (starts, ended) ON catalog.exports TO explorer_service;
"""


def upgrade() -> None:
    """Make the table."""
    op.get_bind().exec_driver_sql(EXPORTS)
