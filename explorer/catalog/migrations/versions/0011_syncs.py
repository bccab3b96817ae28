"""How each tenant follows the schedules of its pipelines, when its server was looked at, and why it is held back."""

from alembic import op

revision = "0011"
down_revision = "0010"

SYNCS = """
CREATE TABLE catalog.syncs (
    tenant_id uuid NOT NULL REFERENCES catalog.tenants ON DELETE CASCADE,
    pipeline text NOT NULL,
    cron text,
    full_refresh_cron text,
    timezone text,
    is_stopped boolean NOT NULL DEFAULT false,
    requests_per_day integer CHECK (requests_per_day > 0),
    followed_at timestamptz,
    full_refresh_followed_at timestamptz,
    looked_at timestamptz,
    failures integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    failure jsonb,
    held_until timestamptz,
    PRIMARY KEY (tenant_id, pipeline),
    CHECK ((failure IS NULL) = (failures = 0)),
    CHECK (held_until IS NULL OR failures > 0)
);
GRANT SELECT, INSERT, UPDATE, DELETE ON catalog.syncs TO explorer_service;
"""


def upgrade() -> None:
    """Make the table."""
    op.get_bind().exec_driver_sql(SYNCS)
