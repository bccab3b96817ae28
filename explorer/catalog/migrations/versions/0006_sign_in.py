"""People who signed in, the programs that act for them, and the tokens that they were given."""

from alembic import op

revision = "0006"
down_revision = "0005"

# Only hashes of tokens, codes and cookies are stored. What identity providers gave is encrypted.
IDENTITIES = """
ALTER TABLE catalog.grants ADD COLUMN source text NOT NULL DEFAULT 'cli'
    CHECK (source IN ('cli', 'membership', 'claims'));

CREATE TABLE catalog.identities (
    principal_id uuid PRIMARY KEY REFERENCES catalog.principals,
    provider text NOT NULL,
    subject text NOT NULL,
    username text NOT NULL,
    tokens bytea,
    signed_in_at timestamptz NOT NULL DEFAULT now(),
    checked_at timestamptz NOT NULL DEFAULT now(),
    checking_until timestamptz,
    blocked_at timestamptz,
    UNIQUE (provider, subject)
);
GRANT SELECT, INSERT, UPDATE (username, tokens, signed_in_at, checked_at, checking_until, blocked_at)
    ON catalog.identities TO explorer_service;
"""

CLIENTS = """
CREATE TABLE catalog.oauth_clients (
    client_id text PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('pinned', 'document', 'registered')),
    name text NOT NULL,
    redirect_uris text[] NOT NULL CHECK (cardinality(redirect_uris) > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    fresh_until timestamptz,
    last_used_at timestamptz,
    blocked_at timestamptz
);
GRANT SELECT, INSERT, DELETE, UPDATE (name, redirect_uris, fresh_until, last_used_at, blocked_at)
    ON catalog.oauth_clients TO explorer_service;

CREATE TABLE catalog.rates (
    key text PRIMARY KEY,
    window_ends timestamptz NOT NULL,
    used integer NOT NULL
);
CREATE INDEX rates_age ON catalog.rates (window_ends);
GRANT SELECT, INSERT, UPDATE, DELETE ON catalog.rates TO explorer_service;
"""

GRANTS = """
CREATE TABLE catalog.oauth_requests (
    id uuid PRIMARY KEY,
    client_id text NOT NULL REFERENCES catalog.oauth_clients ON DELETE CASCADE,
    redirect_uri text NOT NULL,
    state text,
    scopes text[] NOT NULL,
    challenge text NOT NULL,
    browser_hash bytea NOT NULL,
    provider text,
    state_hash bytea UNIQUE,
    secret bytea,
    offered jsonb,
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);
CREATE INDEX oauth_requests_age ON catalog.oauth_requests (expires_at);
CREATE INDEX oauth_requests_client ON catalog.oauth_requests (client_id);
GRANT SELECT, INSERT, DELETE, UPDATE (provider, state_hash, secret, offered, used_at)
    ON catalog.oauth_requests TO explorer_service;

CREATE TABLE catalog.oauth_grants (
    id uuid PRIMARY KEY,
    principal_id uuid NOT NULL REFERENCES catalog.principals,
    client_id text NOT NULL REFERENCES catalog.oauth_clients ON DELETE CASCADE,
    scopes text[] NOT NULL CHECK (cardinality(scopes) > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    last_used_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX oauth_grants_principal ON catalog.oauth_grants (principal_id);
CREATE INDEX oauth_grants_client ON catalog.oauth_grants (client_id);
GRANT SELECT, INSERT, DELETE, UPDATE (expires_at, last_used_at, revoked_at) ON catalog.oauth_grants TO explorer_service;

CREATE TABLE catalog.oauth_codes (
    code_hash bytea PRIMARY KEY CHECK (octet_length(code_hash) = 32),
    grant_id uuid NOT NULL REFERENCES catalog.oauth_grants ON DELETE CASCADE,
    redirect_uri text NOT NULL,
    challenge text NOT NULL,
    lifetime_s integer NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);
CREATE INDEX oauth_codes_grant ON catalog.oauth_codes (grant_id);
GRANT SELECT, INSERT, DELETE, UPDATE (used_at) ON catalog.oauth_codes TO explorer_service;

CREATE TABLE catalog.oauth_tokens (
    token_hash bytea PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    grant_id uuid NOT NULL REFERENCES catalog.oauth_grants ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('access', 'refresh')),
    scopes text[] NOT NULL,
    expires_at timestamptz NOT NULL,
    rotated_at timestamptz,
    reissues integer NOT NULL DEFAULT 0
);
CREATE INDEX oauth_tokens_grant ON catalog.oauth_tokens (grant_id);
CREATE INDEX oauth_tokens_age ON catalog.oauth_tokens (expires_at);
GRANT SELECT, INSERT, DELETE, UPDATE (rotated_at, reissues) ON catalog.oauth_tokens TO explorer_service;
"""


def upgrade() -> None:
    """Make the tables."""
    for statements in (IDENTITIES, CLIENTS, GRANTS):
        op.get_bind().exec_driver_sql(statements)
