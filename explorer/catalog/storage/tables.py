"""The catalog's tables for SQLAlchemy. The migrations make them and hold constraints and rights."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, Integer, LargeBinary, MetaData, Table, Text
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
)
grants = Table(
    "grants",
    metadata,
    Column("principal_id", UUID(as_uuid=True), primary_key=True),
    _tenant_id(),
    Column("scopes", ARRAY(Text)),
)
audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, primary_key=True),
    _at("at"),
    Column("actor", Text),
    Column("action", Text),
    Column("tenant_key", Text),
    Column("outcome", Text),
    Column("code", Text),
    Column("detail", JSONB),
    Column("duration_ms", Integer),
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
request_slots = Table(
    "request_slots",
    metadata,
    Column("server", Text, primary_key=True),
    Column("external_id", Text, primary_key=True),
    _at("next_at"),
    _at("not_before"),
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
