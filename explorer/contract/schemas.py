"""Names of a tenant's schemas and roles. All begin with its schema prefix, which names no customer."""

from dataclasses import dataclass
from typing import Literal

SchemaKind = Literal["raw", "raw_staging", "staging", "marts"]
SCHEMA_KINDS: tuple[SchemaKind, ...] = ("raw", "raw_staging", "staging", "marts")


@dataclass(frozen=True)
class TenantSchemas:
    """Every name that belongs to a schema prefix (`t_<8 hex>`)."""

    prefix: str

    @property
    def raw(self) -> str:
        """Schema of the loader's tables."""
        return self.schema("raw")

    @property
    def raw_staging(self) -> str:
        """Schema in which the loader prepares a merge."""
        return self.schema("raw_staging")

    @property
    def staging(self) -> str:
        """Schema of the staging views and of the tenant's bookkeeping."""
        return self.schema("staging")

    @property
    def marts(self) -> str:
        """Schema of the tables that agents query."""
        return self.schema("marts")

    @property
    def rw(self) -> str:
        """Login of the loader and of dbt."""
        return f"{self.prefix}_rw"

    @property
    def ro(self) -> str:
        """Login of agents' queries."""
        return f"{self.prefix}_ro"

    @property
    def saved(self) -> str:
        """Schema of the models that people and agents have saved, and login that builds them. A tenant has both from its first
        one on."""
        return f"{self.prefix}_saved"

    @property
    def schemas(self) -> tuple[str, ...]:
        """Names of the four schemas that each tenant has."""
        return tuple(self.schema(kind) for kind in SCHEMA_KINDS)

    def schema(self, kind: SchemaKind) -> str:
        """Name of one of the four schemas."""
        return f"{self.prefix}_{kind}"
