"""The platform's records about its tenants: schema `catalog` of database `explorer`, as stores of plain values.

Tenants, their encrypted credentials, the state of their schemas, discovered structures, semantic overlays, principals with
tokens and grants, launches in progress, and the audit log. Runs are not here: Dagster's storage records them. Nor are tenants'
data, roles and schemas.
"""

from explorer.catalog.access.audit import AuditEntry, AuditLog, AuditRecord
from explorer.catalog.access.principals import DEFAULT_SCOPES, Principal, PrincipalSummary, Scope
from explorer.catalog.catalog import Catalog
from explorer.catalog.coordination.launches import Claim
from explorer.catalog.errors import (
    CatalogNotReady,
    CatalogUnavailable,
    CredentialInvalid,
    CredentialMissing,
    ExternalIdTaken,
    KeyringInvalid,
    KeyringMismatch,
    KeyringMissing,
    PrincipalExists,
    PrincipalInvalid,
    SchemaAbsent,
    SchemaStateConflict,
    ScopeUnknown,
    ServerInvalid,
    TenantExists,
    TenantKeyInvalid,
    TenantKeyRetired,
    UnknownPrincipal,
    UnknownStructureVersion,
)
from explorer.catalog.lifecycle.schemas import State, TenantLogin, TenantSchema
from explorer.catalog.migrations import migrate
from explorer.catalog.secrets.credentials import ApiKeyCredential, Credential, FieldsCredential, OAuthCredential
from explorer.catalog.secrets.keyring import Keyring
from explorer.catalog.tenants.discovered import DiscoveredStructure, DiscoveredVersion
from explorer.catalog.tenants.names import check_key
from explorer.catalog.tenants.semantics import SemanticsVersion
from explorer.catalog.tenants.tenant import Tenant, TenantStatus

__all__ = [
    "DEFAULT_SCOPES",
    "ApiKeyCredential",
    "AuditEntry",
    "AuditLog",
    "AuditRecord",
    "Catalog",
    "CatalogNotReady",
    "CatalogUnavailable",
    "Claim",
    "Credential",
    "CredentialInvalid",
    "CredentialMissing",
    "DiscoveredStructure",
    "DiscoveredVersion",
    "ExternalIdTaken",
    "FieldsCredential",
    "Keyring",
    "KeyringInvalid",
    "KeyringMismatch",
    "KeyringMissing",
    "OAuthCredential",
    "Principal",
    "PrincipalExists",
    "PrincipalInvalid",
    "PrincipalSummary",
    "SchemaAbsent",
    "SchemaStateConflict",
    "Scope",
    "ScopeUnknown",
    "SemanticsVersion",
    "ServerInvalid",
    "State",
    "Tenant",
    "TenantExists",
    "TenantKeyInvalid",
    "TenantKeyRetired",
    "TenantLogin",
    "TenantSchema",
    "TenantStatus",
    "UnknownPrincipal",
    "UnknownStructureVersion",
    "check_key",
    "migrate",
]
