"""The models that people and agents have saved for each tenant, version by version.

Versions never change; one without content says that the model was dropped. Whoever saves has checked the statement:
`mcp_bridge.saved_models` does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import msgspec
from sqlalchemy import Row, exists, func, insert, select

from explorer.catalog.errors import ModelLimitReached, UnknownModel
from explorer.catalog.storage.database import Database
from explorer.catalog.storage.tables import saved_models
from explorer.catalog.tenants.tenant import Tenant
from explorer.core.jsonb import storable


class ColumnTests(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """dbt's tests of one column. `accepted_values`: the only values that it may have beside null; none: any."""

    unique: bool = False
    not_null: bool = False
    accepted_values: tuple[str, ...] = ()


class Reference(msgspec.Struct, frozen=True, array_like=True):
    """Where the statement names a table: characters `start` to `end` of its text are a name of `table`."""

    start: int
    end: int
    table: str


class ModelText(msgspec.Struct, frozen=True, omit_defaults=True):
    """One version of a model. `sql`: one SELECT that the validator has passed, without a semicolon at its end; `columns`: of its
    result, name and type in PostgreSQL's words; `references`: in their order; `personal`: by column, the columns with personal
    data that it tells (`table.column`); `tests`: by column."""

    sql: str
    description: str
    columns: tuple[tuple[str, str], ...]
    references: tuple[Reference, ...]
    tests: dict[str, ColumnTests] = {}
    personal: dict[str, tuple[str, ...]] = {}

    @property
    def reads(self) -> frozenset[str]:
        """The names of the tables and saved models that it reads."""
        return frozenset(reference.table for reference in self.references)


@dataclass(frozen=True)
class SavedModel:
    """A version of a model. `owner`: who saved its first version since it was last dropped; `actor`: who saved this one; `text`:
    None where it was dropped."""

    name: str
    version: int
    text: ModelText | None
    owner: str
    actor: str
    saved_at: datetime

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        text = msgspec.convert(row.content, ModelText) if row.content is not None else None
        return cls(row.name, row.version, text, row.owner, row.actor, row.saved_at)


class SavedModelStore:
    """The saved models of every tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def current(self, tenant: Tenant) -> dict[str, tuple[SavedModel, ModelText]]:
        """The newest version of each model that was not dropped, with its text, by name."""
        with self._database.single() as connection:
            found = [SavedModel.of(row) for row in connection.execute(_kept(tenant).order_by(saved_models.c.name))]
        return {model.name: (model, model.text) for model in found if model.text is not None}

    def versions(self, tenant: Tenant, name: str) -> list[SavedModel]:
        """All versions of a model, the newest first, also of one that was dropped. Raises: UnknownModel."""
        query = (
            select(saved_models)
            .where(saved_models.c.tenant_id == tenant.id, saved_models.c.name == storable(name))
            .order_by(saved_models.c.version.desc())
        )
        with self._database.single() as connection:
            found = [SavedModel.of(row) for row in connection.execute(query)]
        if not found:
            raise UnknownModel(f"There is no saved model {name[:80]!r}.", next_step="List the saved models.")
        return found

    def save(self, tenant: Tenant, name: str, text: ModelText, actor: str, *, most: int) -> SavedModel:
        """Store a version, unless the newest is equal: then return that one. `most`: models that the tenant may have.

        Raises:
            ModelLimitReached
        """
        content = storable(msgspec.to_builtins(text))
        with self._database.begin() as connection:
            self._lock(connection, tenant)
            newest = connection.execute(_newest(tenant, name)).one_or_none()
            if newest is not None and newest.content == content:
                return SavedModel.of(newest)
            if newest is None or newest.content is None:
                self._require_room(connection, tenant, most)
            return self._insert(connection, tenant, name, newest, content, actor)

    def drop(self, tenant: Tenant, name: str, actor: str) -> SavedModel:
        """Drop a model: its versions stay. Raises: UnknownModel."""
        with self._database.begin() as connection:
            self._lock(connection, tenant)
            newest = connection.execute(_newest(tenant, name)).one_or_none()
            if newest is None or newest.content is None:
                raise UnknownModel(f"There is no saved model {name[:80]!r}.", next_step="List the saved models.")
            return self._insert(connection, tenant, name, newest, None, actor)

    def _insert(
        self,
        connection: Any,
        tenant: Tenant,
        name: str,
        newest: Row[Any] | None,
        content: Mapping[str, Any] | None,
        actor: str,
    ) -> SavedModel:
        owner = newest.owner if newest is not None and newest.content is not None else storable(actor)
        row = connection.execute(
            insert(saved_models)
            .values(
                tenant_id=tenant.id,
                name=name,
                version=newest.version + 1 if newest is not None else 1,
                content=content,
                owner=owner,
                actor=storable(actor),
            )
            .returning(saved_models)
        ).one()
        return SavedModel.of(row)

    def _lock(self, connection: Any, tenant: Tenant) -> None:
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"saved models:{tenant.id}", 0))))

    def _require_room(self, connection: Any, tenant: Tenant, most: int) -> None:
        count = connection.scalar(select(func.count()).select_from(_kept(tenant).subquery()))
        if count >= most:
            raise ModelLimitReached(
                f"The tenant has {count} saved models, and may have {most}.",
                next_step="Drop one that nobody needs, or ask the operator (EXPLORER_SAVED_MODELS_MAX).",
                details={"models": count, "max": most},
            )


def _kept(tenant: Tenant) -> Any:
    """The newest version of each model that was not dropped."""
    later = saved_models.alias()
    is_newest = ~exists().where(
        later.c.tenant_id == saved_models.c.tenant_id,
        later.c.name == saved_models.c.name,
        later.c.version > saved_models.c.version,
    )
    return select(saved_models).where(
        saved_models.c.tenant_id == tenant.id, saved_models.c.content.is_not(None), is_newest
    )


def _newest(tenant: Tenant, name: str) -> Any:
    return (
        select(saved_models)
        .where(saved_models.c.tenant_id == tenant.id, saved_models.c.name == storable(name))
        .order_by(saved_models.c.version.desc())
        .limit(1)
    )
