"""The platform's records about its tenants: schema `catalog` of database `explorer`, as stores of plain values.

Tenants, their encrypted credentials, the state of their schemas, discovered structures, semantic overlays, principals with
tokens and grants, people who signed in and the programs that act for them, launches in progress, links to results,
what is asked of the provisioning job, and the audit log. Runs are
not here: Dagster's storage records them. Nor are tenants' data, roles and schemas.
"""

from explorer.catalog.access.exports import ExportLink
from explorer.catalog.access.identities import Identity, IdentityRecord, PersonSummary, ProviderTokens
from explorer.catalog.access.limits import Limits, PersonalDataPolicy, StoredLimits, budget_key
from explorer.catalog.access.oauth_clients import ClientSummary, OAuthClient
from explorer.catalog.access.oauth_grants import Grant, Issued, Refused, SignedInPrincipal, UiSession
from explorer.catalog.access.oauth_requests import SignInRequest
from explorer.catalog.access.principals import DEFAULT_SCOPES, Principal, PrincipalSummary, Scope, UiRole
from explorer.catalog.async_catalog import (
    Admission,
    AdmittedTenant,
    AdmittedWorkspace,
    AsyncCatalog,
    PersonAdmission,
    Standing,
)
from explorer.catalog.audit.heads import Head, HeadKey
from explorer.catalog.audit.log import ANONYMOUS, OPERATOR, AuditEntry, AuditLog, AuditRecord
from explorer.catalog.catalog import Catalog
from explorer.catalog.coordination.budgets import Amounts, Spent, Used
from explorer.catalog.coordination.launches import Claim
from explorer.catalog.coordination.quotas import Quota, QuotaExhausted, QuotaUse
from explorer.catalog.coordination.syncs import Sync
from explorer.catalog.errors import (
    AuditBroken,
    AuditKeyInvalid,
    CatalogNotReady,
    CatalogUnavailable,
    CredentialInvalid,
    CredentialMissing,
    ExternalIdTaken,
    IdentityBlocked,
    KeyringInvalid,
    KeyringMismatch,
    KeyringMissing,
    LimitInvalid,
    PrincipalExists,
    PrincipalInvalid,
    SchemaAbsent,
    SchemaStateConflict,
    ScopeUnknown,
    ServerInvalid,
    TenantExists,
    TenantKeyInvalid,
    TenantKeyRetired,
    UnknownClient,
    UnknownModel,
    UnknownPerson,
    UnknownPrincipal,
    UnknownStructureVersion,
    UnknownTenantRequest,
    UnknownWorkspace,
    WorkspaceInvalid,
)
from explorer.catalog.lifecycle.provisioning import ProvisioningKind, ProvisioningRequest
from explorer.catalog.lifecycle.schemas import State, TenantLogin, TenantSchema
from explorer.catalog.lifecycle.tenant_requests import Decision, TenantRequest
from explorer.catalog.lifecycle.workspaces import Workspace
from explorer.catalog.migrations import migrate
from explorer.catalog.secrets.credentials import ApiKeyCredential, Credential, FieldsCredential, OAuthCredential
from explorer.catalog.secrets.keyring import Keyring
from explorer.catalog.tenants.discovered import DiscoveredStructure, DiscoveredVersion
from explorer.catalog.tenants.names import check_key
from explorer.catalog.tenants.semantics import SemanticsVersion
from explorer.catalog.tenants.tenant import Tenant, TenantStatus

__all__ = [
    "ANONYMOUS",
    "DEFAULT_SCOPES",
    "OPERATOR",
    "Admission",
    "AdmittedTenant",
    "AdmittedWorkspace",
    "Amounts",
    "ApiKeyCredential",
    "AsyncCatalog",
    "AuditBroken",
    "AuditEntry",
    "AuditKeyInvalid",
    "AuditLog",
    "AuditRecord",
    "Catalog",
    "CatalogNotReady",
    "CatalogUnavailable",
    "Claim",
    "ClientSummary",
    "Credential",
    "CredentialInvalid",
    "CredentialMissing",
    "Decision",
    "DiscoveredStructure",
    "DiscoveredVersion",
    "ExportLink",
    "ExternalIdTaken",
    "FieldsCredential",
    "Grant",
    "Head",
    "HeadKey",
    "Identity",
    "IdentityBlocked",
    "IdentityRecord",
    "Issued",
    "Keyring",
    "KeyringInvalid",
    "KeyringMismatch",
    "KeyringMissing",
    "LimitInvalid",
    "Limits",
    "OAuthClient",
    "OAuthCredential",
    "PersonAdmission",
    "PersonSummary",
    "PersonalDataPolicy",
    "Principal",
    "PrincipalExists",
    "PrincipalInvalid",
    "PrincipalSummary",
    "ProviderTokens",
    "ProvisioningKind",
    "ProvisioningRequest",
    "Quota",
    "QuotaExhausted",
    "QuotaUse",
    "Refused",
    "SchemaAbsent",
    "SchemaStateConflict",
    "Scope",
    "ScopeUnknown",
    "SemanticsVersion",
    "ServerInvalid",
    "SignInRequest",
    "SignedInPrincipal",
    "Spent",
    "Standing",
    "State",
    "StoredLimits",
    "Sync",
    "Tenant",
    "TenantExists",
    "TenantKeyInvalid",
    "TenantKeyRetired",
    "TenantLogin",
    "TenantRequest",
    "TenantSchema",
    "TenantStatus",
    "UiRole",
    "UiSession",
    "UnknownClient",
    "UnknownModel",
    "UnknownPerson",
    "UnknownPrincipal",
    "UnknownStructureVersion",
    "UnknownTenantRequest",
    "UnknownWorkspace",
    "Used",
    "Workspace",
    "WorkspaceInvalid",
    "budget_key",
    "check_key",
    "migrate",
]
