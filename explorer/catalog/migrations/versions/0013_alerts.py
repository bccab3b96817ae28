"""What is wrong at present, and whether it was told."""

from alembic import op

revision = "0013"
down_revision = "0011"

ALERTS = """
CREATE TABLE catalog.alerts (
    key text PRIMARY KEY,
    cause text NOT NULL,
    severity text NOT NULL CHECK (severity IN ('warning', 'critical')),
    code text NOT NULL,
    message text NOT NULL,
    next_step text NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    told_at timestamptz,
    over_at timestamptz
);
GRANT SELECT, INSERT, UPDATE, DELETE ON catalog.alerts TO explorer_service;
"""


def upgrade() -> None:
    """Make the table."""
    op.get_bind().exec_driver_sql(ALERTS)
