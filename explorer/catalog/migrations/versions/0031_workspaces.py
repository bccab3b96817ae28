"""Sets of tenants that one principal queries together."""

from alembic import op

revision = "0031"
down_revision = "0029"

# A row stays after it was dropped, until its login is gone. `principal_id` null: the operator's.
WORKSPACES = """
CREATE TABLE catalog.workspaces (
    id uuid PRIMARY KEY,
    principal_id uuid REFERENCES catalog.principals ON DELETE CASCADE,
    name text NOT NULL,
    role text NOT NULL UNIQUE CHECK (role ~ '^w_[0-9a-f]{8}$'),
    password bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    dropped_at timestamptz
);
CREATE UNIQUE INDEX workspaces_name ON catalog.workspaces (principal_id, name) NULLS NOT DISTINCT WHERE dropped_at IS NULL;
CREATE TABLE catalog.workspace_members (
    workspace_id uuid NOT NULL REFERENCES catalog.workspaces ON DELETE CASCADE,
    tenant_id uuid NOT NULL REFERENCES catalog.tenants ON DELETE CASCADE,
    PRIMARY KEY (workspace_id, tenant_id)
);
CREATE INDEX workspace_members_tenant ON catalog.workspace_members (tenant_id);
GRANT SELECT, INSERT, UPDATE, DELETE ON catalog.workspaces, catalog.workspace_members TO explorer_service;
"""

# A request about a workspace's login has the workspace's id in the place of a tenant's key.
PROVISIONING = """
ALTER TABLE catalog.provisioning DROP CONSTRAINT provisioning_kind_check,
    ADD CONSTRAINT provisioning_kind_check CHECK (kind IN ('provision', 'teardown', 'register', 'saved_models', 'workspace'));
"""


def upgrade() -> None:
    """Make the tables, and let the provisioning job be asked for workspaces' logins."""
    for statements in (WORKSPACES, PROVISIONING):
        op.get_bind().exec_driver_sql(statements)
