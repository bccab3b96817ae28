"""The catalog's tables for SQLAlchemy. The migrations make them and hold constraints and rights."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Double, Integer, LargeBinary, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

metadata = MetaData(schema="catalog")


def _at(name: str) -> Column[datetime]:
    return Column(name, DateTime(timezone=True))


def _tenant_id() -> Column[Any]:
    return Column("tenant_id", UUID(as_uuid=True), primary_key=True)


tenants = Table(
    "tenants",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("key", Text),
    Column("provider", Text),
    Column("server", Text),
    Column("external_id", Text),
    Column("external_id_key", Text),
    Column("display_name", Text),
    Column("status", Text),
    _at("created_at"),
    _at("removed_at"),
)
credentials = Table(
    "credentials",
    metadata,
    _tenant_id(),
    Column("kind", Text),
    Column("ciphertext", LargeBinary),
    _at("updated_at"),
)
schemas = Table(
    "schemas",
    metadata,
    _tenant_id(),
    Column("prefix", Text),
    Column("state", Text),
    _at("state_changed_at"),
    Column("last_error", Text),
    Column("run_id", Text),
    Column("passwords", LargeBinary),
    Column("holdings", JSONB(none_as_null=True)),
    _at("expired_at"),
)
discovered = Table(
    "discovered",
    metadata,
    _tenant_id(),
    Column("version", Integer, primary_key=True),
    Column("content_hash", Text),
    Column("structure", JSONB),
    Column("diff", JSONB),
    Column("run_id", Text),
    _at("created_at"),
)
principals = Table(
    "principals",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("name", Text),
    _at("created_at"),
    _at("revoked_at"),
)
tokens = Table(
    "tokens",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("principal_id", UUID(as_uuid=True)),
    Column("token_hash", LargeBinary),
    _at("created_at"),
    _at("expires_at"),
    _at("revoked_at"),
    _at("last_used_at"),
    Column("toolsets", ARRAY(Text)),
)
grants = Table(
    "grants",
    metadata,
    Column("principal_id", UUID(as_uuid=True), primary_key=True),
    _tenant_id(),
    Column("scopes", ARRAY(Text)),
    Column("source", Text),
)
identities = Table(
    "identities",
    metadata,
    Column("principal_id", UUID(as_uuid=True), primary_key=True),
    Column("provider", Text),
    Column("subject", Text),
    Column("username", Text),
    Column("tokens", LargeBinary),
    _at("signed_in_at"),
    _at("checked_at"),
    _at("checking_until"),
    _at("blocked_at"),
)
oauth_clients = Table(
    "oauth_clients",
    metadata,
    Column("client_id", Text, primary_key=True),
    Column("kind", Text),
    Column("name", Text),
    Column("redirect_uris", ARRAY(Text)),
    _at("created_at"),
    _at("fresh_until"),
    _at("last_used_at"),
    _at("blocked_at"),
)
rates = Table(
    "rates",
    metadata,
    Column("key", Text, primary_key=True),
    _at("window_ends"),
    Column("used", Integer),
)
oauth_requests = Table(
    "oauth_requests",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("client_id", Text),
    Column("redirect_uri", Text),
    Column("state", Text),
    Column("scopes", ARRAY(Text)),
    Column("challenge", Text),
    Column("browser_hash", LargeBinary),
    Column("provider", Text),
    Column("state_hash", LargeBinary),
    Column("secret", LargeBinary),
    Column("offered", JSONB),
    _at("expires_at"),
    _at("used_at"),
    Column("toolsets", ARRAY(Text)),
)
oauth_grants = Table(
    "oauth_grants",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("principal_id", UUID(as_uuid=True)),
    Column("client_id", Text),
    Column("scopes", ARRAY(Text)),
    _at("created_at"),
    _at("expires_at"),
    _at("last_used_at"),
    _at("revoked_at"),
    Column("toolsets", ARRAY(Text)),
)
exports = Table(
    "exports",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("link_hash", LargeBinary),
    Column("tenant_id", UUID(as_uuid=True)),
    Column("principal_id", UUID(as_uuid=True)),
    Column("format", Text),
    Column("statement_sha256", Text),
    Column("versions", JSONB),
    Column("sealed", LargeBinary),
    _at("made_at"),
    _at("expires_at"),
    Column("starts", Integer),
    Column("ended", JSONB),
)
oauth_codes = Table(
    "oauth_codes",
    metadata,
    Column("code_hash", LargeBinary, primary_key=True),
    Column("grant_id", UUID(as_uuid=True)),
    Column("redirect_uri", Text),
    Column("challenge", Text),
    Column("lifetime_s", Integer),
    _at("expires_at"),
    _at("used_at"),
)
oauth_tokens = Table(
    "oauth_tokens",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("grant_id", UUID(as_uuid=True)),
    Column("kind", Text),
    Column("scopes", ARRAY(Text)),
    _at("expires_at"),
    _at("rotated_at"),
    Column("reissues", Integer),
)
semantics = Table(
    "semantics",
    metadata,
    _tenant_id(),
    Column("version", Integer, primary_key=True),
    Column("content", JSONB),
    Column("actor", Text),
    _at("created_at"),
)
saved_models = Table(
    "saved_models",
    metadata,
    _tenant_id(),
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("content", JSONB(none_as_null=True)),
    Column("owner", Text),
    Column("actor", Text),
    _at("saved_at"),
)
request_slots = Table(
    "request_slots",
    metadata,
    Column("server", Text, primary_key=True),
    Column("external_id", Text, primary_key=True),
    _at("next_at"),
    _at("not_before"),
)
syncs = Table(
    "syncs",
    metadata,
    _tenant_id(),
    Column("pipeline", Text, primary_key=True),
    Column("cron", Text),
    Column("full_refresh_cron", Text),
    Column("timezone", Text),
    Column("is_stopped", Boolean),
    Column("requests_per_day", Integer),
    Column("fresh_within_minutes", Integer),
    _at("followed_at"),
    _at("full_refresh_followed_at"),
    _at("looked_at"),
    Column("failures", Integer),
    Column("failure", JSONB(none_as_null=True)),
    _at("held_until"),
    _at("judged_at"),
    _at("ran_at"),
    Column("ran_with", Text),
)
alerts = Table(
    "alerts",
    metadata,
    Column("key", Text, primary_key=True),
    Column("cause", Text),
    Column("severity", Text),
    Column("code", Text),
    Column("message", Text),
    Column("next_step", Text),
    _at("since"),
    _at("told_at"),
    _at("over_at"),
)
provisioning = Table(
    "provisioning",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("kind", Text),
    Column("tenant_key", Text),
    Column("place", JSONB(none_as_null=True)),
    Column("secret", LargeBinary),
    Column("actor", Text),
    Column("state", Text),
    Column("run_id", Text),
    Column("failure", JSONB(none_as_null=True)),
    _at("asked_at"),
    _at("ended_at"),
)
tenant_requests = Table(
    "tenant_requests",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("provider", Text),
    Column("server", Text),
    Column("external_id", Text),
    Column("title", Text),
    Column("actor", Text),
    _at("asked_at"),
    Column("decision", Text),
    Column("words", Text),
    _at("decided_at"),
)
launches = Table(
    "launches",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("tenant_id", UUID(as_uuid=True)),
    Column("pipeline", Text),
    Column("idempotency_key", Text),
    Column("actor", Text),
    Column("state", Text),
    Column("holder", UUID(as_uuid=True)),
    _at("held_until"),
    Column("run_id", Text),
    _at("created_at"),
)
limits = Table(
    "limits",
    metadata,
    Column("tenant_id", UUID(as_uuid=True)),
    Column("principal_id", UUID(as_uuid=True)),
    Column("calls", BigInteger),
    Column("rows", BigInteger),
    Column("bytes", BigInteger),
    Column("seconds", BigInteger),
    Column("max_rows_per_query", Integer),
    Column("max_query_timeout_seconds", Double),
    Column("allowed_tables", ARRAY(Text)),
    Column("excluded_tables", ARRAY(Text)),
    Column("personal_data", Text),
    _at("updated_at"),
)
workspaces = Table(
    "workspaces",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("principal_id", UUID(as_uuid=True)),
    Column("name", Text),
    Column("role", Text),
    Column("password", LargeBinary),
    _at("created_at"),
    _at("dropped_at"),
)
workspace_members = Table(
    "workspace_members",
    metadata,
    Column("workspace_id", UUID(as_uuid=True), primary_key=True),
    _tenant_id(),
)
quotas = Table(
    "quotas",
    metadata,
    _tenant_id(),
    Column("runs", BigInteger),
    Column("requests", BigInteger),
    Column("rows", BigInteger),
    Column("bytes", BigInteger),
)
usage = Table(
    "usage",
    metadata,
    Column("key", Text, primary_key=True),
    Column("window_s", Integer, primary_key=True),
    _at("ends_at"),
    Column("calls", BigInteger),
    Column("rows", BigInteger),
    Column("bytes", BigInteger),
    Column("ms", BigInteger),
)

# Schema `audit` belongs to another role: `postgres/audit.sql` makes it, no migration changes it.
audit_schema = MetaData(schema="audit")
audit_entries = Table(
    "entries",
    audit_schema,
    Column("id", BigInteger, primary_key=True),
    _at("at"),
    Column("actor", Text),
    Column("action", Text),
    Column("tenant_key", Text),
    Column("outcome", Text),
    Column("code", Text),
    Column("detail", JSONB),
    Column("duration_ms", Integer),
    Column("previous", LargeBinary),
    Column("hash", LargeBinary),
)
audit_head = Table(
    "head",
    audit_schema,
    Column("is_one", Boolean, primary_key=True),
    Column("id", BigInteger),
    Column("hash", LargeBinary),
)
audit_segments = Table(
    "segments",
    audit_schema,
    Column("kind", Text, primary_key=True),
    Column("first_id", BigInteger),
    Column("last_id", BigInteger, primary_key=True),
    _at("first_at"),
    _at("last_at"),
    Column("entries", BigInteger),
    Column("previous", LargeBinary),
    Column("hash", LargeBinary),
    Column("file_sha256", LargeBinary),
    _at("sealed_at"),
)
