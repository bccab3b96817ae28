"""The semantic overlay of each tenant, version by version, and the scope that allows changing it."""

from alembic import op

revision = "0003"
down_revision = "0002"

SEMANTICS = """
CREATE TABLE catalog.semantics (
    tenant_id uuid NOT NULL REFERENCES catalog.tenants,
    version integer NOT NULL CHECK (version > 0),
    content jsonb NOT NULL,
    actor text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, version)
);
GRANT SELECT, INSERT ON catalog.semantics TO explorer_service;

ALTER TABLE catalog.grants DROP CONSTRAINT grants_scopes_check;
ALTER TABLE catalog.grants ADD CONSTRAINT grants_scopes_check CHECK (
    cardinality(scopes) > 0
    AND scopes <@ ARRAY[
        'metadata:read', 'query:run', 'runs:launch', 'runs:cancel', 'schema:manage', 'semantics:write'
    ]
);
"""


def upgrade() -> None:
    """Make the table, and let grants hold the new scope."""
    op.get_bind().exec_driver_sql(SEMANTICS)
