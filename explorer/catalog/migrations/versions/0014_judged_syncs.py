"""Up to when a tenant's runs were judged, and when the last good one of everything began, with which definitions."""

from alembic import op

revision = "0014"
down_revision = "0013"

JUDGED = """
ALTER TABLE catalog.syncs
    ADD COLUMN judged_at timestamptz,
    ADD COLUMN ran_at timestamptz,
    ADD COLUMN ran_with text;
"""


def upgrade() -> None:
    """Add the columns."""
    op.get_bind().exec_driver_sql(JUDGED)
