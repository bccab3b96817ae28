"""In which ways the catalog can refuse: one class per way a user can be wrong."""

from explorer.core.errors import ExplorerError, TransientError


class CatalogNotReady(ExplorerError):
    """The catalog's tables are missing or of another version than this program."""

    code = "catalog_not_ready"


class CatalogUnavailable(TransientError):
    """The catalog's database does not answer, or somebody else holds what was asked for too long."""

    code = "catalog_unavailable"


class KeyringInvalid(ExplorerError):
    """The encryption keys themselves cannot be read."""

    code = "keyring_invalid"


class KeyringMissing(KeyringInvalid):
    """There are no encryption keys: neither in the settings nor under HOME."""

    code = "keyring_missing"


class KeyringMismatch(ExplorerError):
    """Something in the catalog was encrypted with a key that is not in the keyring, or for another place."""

    code = "keyring_mismatch"


class TenantKeyInvalid(ExplorerError):
    """A tenant key that cannot serve as a partition key and a command-line word."""

    code = "tenant_key_invalid"


class ServerInvalid(ExplorerError):
    """Not the address of a server."""

    code = "server_invalid"


class TenantExists(ExplorerError):
    """A tenant of this key is registered already."""

    code = "tenant_exists"


class ExternalIdTaken(ExplorerError):
    """What the tenant is on its server is registered already, under another key."""

    code = "tenant_domain_taken"


class TenantKeyRetired(ExplorerError):
    """The key belonged to another tenant, whose history still carries it."""

    code = "tenant_key_retired"


class CredentialInvalid(ExplorerError):
    """A credential that cannot be used with the tenant's server."""

    code = "credential_invalid"


class CredentialMissing(ExplorerError):
    """The tenant has no credential of the kind that is needed."""

    code = "credential_missing"


class SchemaStateConflict(ExplorerError):
    """The tenant's schemas are in another state than the caller expects; nothing was changed."""

    code = "schema_state_conflict"


class SchemaAbsent(ExplorerError):
    """The tenant has no schemas at present."""

    code = "schema_absent"


class UnknownStructureVersion(ExplorerError):
    """No such version of the tenant's discovered structure."""

    code = "unknown_structure_version"


class PrincipalInvalid(ExplorerError):
    """A principal that could do nothing, or whose name cannot be used."""

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
