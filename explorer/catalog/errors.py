"""In which ways can the catalog refuse? One class per way a user can be wrong."""

from explorer.core.errors import ExplorerError, TransientError


class CatalogNotReady(ExplorerError):
    """The catalog's tables are missing or of another version than this program."""

    code = "catalog_not_ready"


class CatalogUnavailable(TransientError):
    """The catalog's database does not answer, or another process held a lock too long."""

    code = "catalog_unavailable"


class KeyringInvalid(ExplorerError):
    """The encryption keys cannot be read."""

    code = "keyring_invalid"


class KeyringMissing(KeyringInvalid):
    """There are no encryption keys: neither in the settings nor under HOME."""

    code = "keyring_missing"


class KeyringMismatch(ExplorerError):
    """A value was encrypted with a key that is not in the keyring, or for another purpose."""

    code = "keyring_mismatch"


class TenantKeyInvalid(ExplorerError):
    """The text cannot be a tenant key (a partition key and a command-line word)."""

    code = "tenant_key_invalid"


class ServerInvalid(ExplorerError):
    """Not the address of a server."""

    code = "server_invalid"


class TenantExists(ExplorerError):
    """A tenant with this key is registered already."""

    code = "tenant_exists"


class ExternalIdTaken(ExplorerError):
    """The tenant's external id is registered already, under another key."""

    code = "tenant_domain_taken"


class TenantKeyRetired(ExplorerError):
    """The key belonged to another tenant, whose history still uses it."""

    code = "tenant_key_retired"


class CredentialInvalid(ExplorerError):
    """The credential cannot be used with the tenant's server."""

    code = "credential_invalid"


class CredentialMissing(ExplorerError):
    """The tenant has no credential of the required kind."""

    code = "credential_missing"


class UnknownTenantRequest(ExplorerError):
    """Nobody has asked for a tenant under this id."""

    code = "unknown_tenant_request"


class SchemaStateConflict(ExplorerError):
    """The tenant's schemas are in another state than the caller expects; nothing was changed."""

    code = "schema_state_conflict"


class SchemaAbsent(ExplorerError):
    """The tenant has no schemas."""

    code = "schema_absent"


class UnknownStructureVersion(ExplorerError):
    """The tenant's structure has no such version."""

    code = "unknown_structure_version"


class UnknownModel(ExplorerError):
    """The tenant has no saved model of this name, or it was dropped."""

    code = "unknown_model"


class ModelLimitReached(ExplorerError):
    """The tenant has as many saved models as it may have."""

    code = "model_limit_reached"


class PrincipalInvalid(ExplorerError):
    """The principal has no rights, or its name cannot be used."""

    code = "principal_invalid"


class PrincipalExists(ExplorerError):
    """Another principal of this name has a valid token."""

    code = "principal_exists"


class UnknownPrincipal(ExplorerError):
    """No principal of this name, or it was revoked already."""

    code = "unknown_principal"


class ScopeUnknown(ExplorerError):
    """No such scope."""

    code = "scope_unknown"


class LimitInvalid(ExplorerError):
    """The value cannot be a limit."""

    code = "limit_invalid"


class AuditKeyInvalid(ExplorerError):
    """The key that signs heads of the audit trail cannot be used."""

    code = "audit_key_invalid"


class AuditBroken(ExplorerError):
    """The audit trail is not as it was written."""

    code = "audit_broken"


class IdentityBlocked(ExplorerError):
    """The operator does not let this person in."""

    code = "identity_blocked"


class UnknownPerson(ExplorerError):
    """Nobody of this name ever signed in."""

    code = "unknown_person"


class UnknownClient(ExplorerError):
    """No OAuth client has this id."""

    code = "unknown_client"


class WorkspaceInvalid(ExplorerError):
    """The workspace cannot have this name or these tenants."""

    code = "workspace_invalid"


class UnknownWorkspace(ExplorerError):
    """The principal has no workspace of this name."""

    code = "unknown_workspace"
