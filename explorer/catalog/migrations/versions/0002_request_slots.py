"""When the next request for each tenant may be sent, shared by all processes (`http.limiter`)."""

from alembic import op

revision = "0002"
down_revision = "0001"

# UNLOGGED: a crash loses a pause of at most an hour, and a commit per request needs no disk write.
REQUEST_SLOTS = """
CREATE UNLOGGED TABLE catalog.request_slots (
    server text NOT NULL,
    domain text NOT NULL,
    next_at timestamptz NOT NULL,
    not_before timestamptz NOT NULL,
    PRIMARY KEY (server, domain)
) WITH (fillfactor = 50);
GRANT SELECT, INSERT, UPDATE ON catalog.request_slots TO explorer_service;
"""


def upgrade() -> None:
    """Make the table."""
    op.get_bind().exec_driver_sql(REQUEST_SLOTS)
