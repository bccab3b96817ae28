"""The audit trail moves to schema `audit`, whose owner nobody logs in as; the entries so far become its first segment."""

from alembic import op

revision = "0007"
down_revision = "0006"

AUDIT = """
GRANT USAGE ON SCHEMA catalog TO explorer_audit;
GRANT SELECT ON catalog.audit TO explorer_audit;
SELECT audit.take_over();
DROP TABLE catalog.audit;
DROP FUNCTION catalog.refuse_change();
REVOKE USAGE ON SCHEMA catalog FROM explorer_audit;
"""


def upgrade() -> None:
    """Take the entries over, and drop the former table."""
    op.get_bind().exec_driver_sql(AUDIT)
