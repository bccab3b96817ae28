"""How much may each principal ask of a tenant? Budgets per window, bounds of one query, and the tables that may be read.

A tenant's row holds for every principal; a principal's own row replaces single values of it. Where neither has a value, that of
the settings holds. `coordination.budgets` counts what is used.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Self, get_args
from uuid import UUID

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects.postgresql import insert

from explorer.catalog.access.principals import unknown_principal
from explorer.catalog.audit.log import change, record
from explorer.catalog.errors import LimitInvalid
from explorer.catalog.storage.database import Database
from explorer.catalog.storage.tables import limits, principals
from explorer.catalog.tenants.tenant import Tenant
from explorer.core.jsonb import storable

_LISTS = ("allowed_tables", "excluded_tables")
PersonalDataPolicy = Literal["mark", "refuse", "mask"]
"""What agents may do with columns that hold personal data: read them, marked as such; not read them; read that there are any."""


@dataclass(frozen=True)
class Limits:
    """Limits of one principal at one tenant; None: the next more general value holds.

    `calls`, `rows`, `bytes`, `seconds`: budget per window, 0 for any number. `allowed_tables`: only these may be read;
    `excluded_tables`: these may not; `personal_data`: the policy in force; all three per tenant only.
    """

    calls: int | None = None
    rows: int | None = None
    bytes: int | None = None
    seconds: int | None = None
    max_rows_per_query: int | None = None
    max_query_timeout_seconds: float | None = None
    allowed_tables: tuple[str, ...] | None = None
    excluded_tables: tuple[str, ...] | None = None
    personal_data: PersonalDataPolicy | None = None

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """From a row, or the JSON of one; other columns are left out."""
        found: dict[str, Any] = {name: values[name] for name in NAMES}
        for name in _LISTS:
            found[name] = tuple(found[name]) if found[name] is not None else None
        return cls(**found)

    def over(self, general: "Limits") -> "Limits":
        """These values, and where there is none the general one."""
        return replace(general, **{name: value for name, value in asdict(self).items() if value is not None})

    def given(self) -> dict[str, Any]:
        """The values that are set, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def may_read(self, table: str) -> bool:
        """Whether a table of this name may be read."""
        is_allowed = self.allowed_tables is None or table in self.allowed_tables
        return is_allowed and table not in (self.excluded_tables or ())


@dataclass(frozen=True)
class StoredLimits:
    """What is set for a tenant, and for a principal there; `principal` None: for all."""

    principal: str | None
    limits: Limits


NAMES = tuple(field.name for field in fields(Limits))


class LimitStore:
    """The limits of all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, tenant: Tenant) -> list[StoredLimits]:
        """Everything that is set for a tenant, that for all principals first."""
        query = (
            select(limits, principals.c.name)
            .outerjoin(principals, principals.c.id == limits.c.principal_id)
            .where(limits.c.tenant_id == tenant.id)
            .order_by(principals.c.name.asc().nulls_first())
        )
        with self._database.begin() as connection:
            rows = connection.execute(query).mappings().all()
        return [StoredLimits(row["name"], Limits.parse(dict(row))) for row in rows]

    def set(self, tenant: Tenant, values: Mapping[str, Any], principal: str | None = None) -> Limits:
        """Set these values, by the names of `Limits`' fields; None lifts one, others stay. Returns all that is set now.

        Raises:
            UnknownPrincipal
            LimitInvalid: a value is out of range, or a list of tables is set for one principal.
        """
        checked = _checked(values, principal)
        with self._database.begin() as connection:
            owner = _principal_id(connection, principal) if principal is not None else None
            statement = insert(limits).values(tenant_id=tenant.id, principal_id=owner, **checked)
            result = connection.execute(
                statement.on_conflict_do_update(
                    index_elements=[limits.c.tenant_id, limits.c.principal_id], set_=checked
                ).returning(limits)
            )
            row = result.mappings().one()
            record(connection, change("set_limits", tenant.key, principal=principal, values=checked))
        return Limits.parse(dict(row))

    def clear(self, tenant: Tenant, principal: str | None = None) -> bool:
        """Remove what is set, for all principals or for one. False when nothing was. Raises: UnknownPrincipal."""
        with self._database.begin() as connection:
            owner = _principal_id(connection, principal) if principal is not None else None
            found = connection.execute(
                delete(limits).where(limits.c.tenant_id == tenant.id, limits.c.principal_id.is_not_distinct_from(owner))
            )
            if found.rowcount:
                record(connection, change("clear_limits", tenant.key, principal=principal))
        return found.rowcount > 0


def budget_key(principal_id: object, tenant_id: object) -> str:
    """The key of the windows of a principal's budget at a tenant."""
    return f"{principal_id}:{tenant_id}"


def _checked(values: Mapping[str, Any], principal: str | None) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if value is None:
            checked[name] = None
        elif name in (*_LISTS, "personal_data"):
            if principal is not None:
                raise LimitInvalid(
                    "Tables and personal data are allowed and excluded for a tenant, not for one principal.",
                    next_step="Leave out --principal, or give the principal budgets only.",
                )
            checked[name] = sorted(set(_names(value))) if name in _LISTS else _policy(value)
        else:
            checked[name] = _number(name, value)
    if not checked:
        raise LimitInvalid("No limit is given.", next_step=f"Give one of: {', '.join(NAMES)}.")
    return checked


def _names(value: Iterable[str]) -> list[str]:
    names = [storable(name).strip() for name in value]
    if not all(names):
        raise LimitInvalid("A table's name is empty.", next_step="Name tables as list_tables shows them.")
    return names


def _policy(value: object) -> str:
    if value not in get_args(PersonalDataPolicy):
        raise LimitInvalid(
            f"Personal data cannot be treated by {value!r}.",
            next_step=f"Give one of: {', '.join(get_args(PersonalDataPolicy))}.",
        )
    return str(value)


def _number(name: str, value: object) -> int | float:
    least = 0 if name in ("calls", "rows", "bytes", "seconds") else 1
    most = 2**31 - 1 if name == "max_rows_per_query" else 2**62
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise LimitInvalid(f"{name} cannot be {value!r}.", next_step=f"Give a number from {least} on.")
    return value


def _principal_id(connection: Connection, name: str) -> UUID:
    found = connection.execute(
        select(principals.c.id).where(principals.c.name == storable(name), principals.c.revoked_at.is_(None))
    ).one_or_none()
    if found is None:
        raise unknown_principal(name)
    owner: UUID = found.id
    return owner
