"""How much each principal may ask of each tenant, and how much it has used."""

from alembic import op

revision = "0008"
down_revision = "0007"

LIMITS = """
CREATE TABLE catalog.limits (
    tenant_id uuid NOT NULL REFERENCES catalog.tenants ON DELETE CASCADE,
    principal_id uuid REFERENCES catalog.principals ON DELETE CASCADE,
    calls bigint CHECK (calls >= 0),
    rows bigint CHECK (rows >= 0),
    bytes bigint CHECK (bytes >= 0),
    seconds bigint CHECK (seconds >= 0),
    max_rows_per_query integer CHECK (max_rows_per_query > 0),
    max_query_timeout_seconds double precision CHECK (max_query_timeout_seconds > 0),
    allowed_tables text[],
    excluded_tables text[],
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (tenant_id, principal_id),
    CHECK (principal_id IS NULL OR (allowed_tables IS NULL AND excluded_tables IS NULL))
);
CREATE INDEX limits_principal ON catalog.limits (principal_id);
GRANT SELECT, INSERT, UPDATE, DELETE ON catalog.limits TO explorer_service;
"""

# UNLOGGED: a crash of the server opens all windows anew, and a commit needs no disk write.
USAGE = """
CREATE UNLOGGED TABLE catalog.usage (
    key text NOT NULL,
    window_s integer NOT NULL CHECK (window_s > 0),
    ends_at timestamptz NOT NULL,
    calls bigint NOT NULL,
    rows bigint NOT NULL,
    bytes bigint NOT NULL,
    ms bigint NOT NULL,
    PRIMARY KEY (key, window_s)
) WITH (fillfactor = 50);
CREATE INDEX usage_age ON catalog.usage (ends_at);
GRANT SELECT, INSERT, UPDATE, DELETE ON catalog.usage TO explorer_service;

-- Adds to windows; a window that is over begins anew. Takes and returns arrays of
-- {key, window_s, calls, rows, bytes, ms}; returned with what is used now and `left_s` until the window ends.
CREATE FUNCTION catalog.spend(given jsonb) RETURNS jsonb LANGUAGE sql AS $body$
    WITH spent AS (
        SELECT s.key, s.window_s, sum(s.calls) AS calls, sum(s.rows) AS rows, sum(s.bytes) AS bytes, sum(s.ms) AS ms
          FROM jsonb_to_recordset(given)
               AS s (key text, window_s integer, calls bigint, rows bigint, bytes bigint, ms bigint)
         GROUP BY s.key, s.window_s ORDER BY s.key, s.window_s
    ), counted AS (
        INSERT INTO catalog.usage AS u (key, window_s, ends_at, calls, rows, bytes, ms)
        SELECT key, window_s, now() + window_s * interval '1 second', calls, rows, bytes, ms FROM spent
        ON CONFLICT (key, window_s) DO UPDATE SET
            ends_at = CASE WHEN u.ends_at > now() THEN u.ends_at ELSE excluded.ends_at END,
            calls = CASE WHEN u.ends_at > now() THEN u.calls ELSE 0 END + excluded.calls,
            rows = CASE WHEN u.ends_at > now() THEN u.rows ELSE 0 END + excluded.rows,
            bytes = CASE WHEN u.ends_at > now() THEN u.bytes ELSE 0 END + excluded.bytes,
            ms = CASE WHEN u.ends_at > now() THEN u.ms ELSE 0 END + excluded.ms
        RETURNING u.key, u.window_s, u.calls, u.rows, u.bytes, u.ms, extract(epoch FROM u.ends_at - now()) AS left_s
    )
    SELECT coalesce(jsonb_agg(to_jsonb(c)), '[]') FROM counted c
$body$;

-- What is set for the tenant and for the principal there, the more general first, and what the window of `key` has used.
CREATE FUNCTION catalog.budget(tenant uuid, principal uuid, key text, window_s integer) RETURNS jsonb
LANGUAGE sql STABLE AS $body$
    SELECT jsonb_build_object(
        'limits', (SELECT jsonb_agg(to_jsonb(l) ORDER BY l.principal_id NULLS FIRST) FROM catalog.limits l
                    WHERE l.tenant_id = budget.tenant AND (l.principal_id IS NULL OR l.principal_id = budget.principal)),
        'used', (SELECT to_jsonb(u) || jsonb_build_object('left_s', extract(epoch FROM u.ends_at - now())) FROM catalog.usage u
                  WHERE u.key = budget.key AND u.window_s = budget.window_s AND u.ends_at > now()))
$body$;
REVOKE ALL ON FUNCTION catalog.spend(jsonb), catalog.budget(uuid, uuid, text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION catalog.spend(jsonb), catalog.budget(uuid, uuid, text, integer) TO explorer_service;
"""


def upgrade() -> None:
    """Make the tables and the function."""
    for statements in (LIMITS, USAGE):
        op.get_bind().exec_driver_sql(statements)
