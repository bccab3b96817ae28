"""The models that people and agents save, version by version, and the scope that allows it."""

from alembic import op

revision = "0032"
down_revision = "0030"

SAVED_MODELS = """
CREATE TABLE catalog.saved_models (
    tenant_id uuid NOT NULL REFERENCES catalog.tenants,
    name text NOT NULL CHECK (name ~ '^[a-z][a-z0-9_]{0,54}$'),
    version integer NOT NULL CHECK (version > 0),
    content jsonb,
    owner text NOT NULL,
    actor text NOT NULL,
    saved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, name, version)
);
GRANT SELECT, INSERT ON catalog.saved_models TO explorer_service;

ALTER TABLE catalog.provisioning DROP CONSTRAINT provisioning_kind_check;
ALTER TABLE catalog.provisioning ADD CONSTRAINT provisioning_kind_check
    CHECK (kind IN ('provision', 'teardown', 'register', 'saved_models'));

ALTER TABLE catalog.grants DROP CONSTRAINT grants_scopes_check;
ALTER TABLE catalog.grants ADD CONSTRAINT grants_scopes_check CHECK (
    cardinality(scopes) > 0
    AND scopes <@ ARRAY[
        'metadata:read', 'query:run', 'runs:launch', 'runs:cancel', 'schema:manage', 'semantics:write', 'models:write'
    ]
);
"""


def upgrade() -> None:
    """Make the table, and let grants hold the new scope."""
    op.get_bind().exec_driver_sql(SAVED_MODELS)
