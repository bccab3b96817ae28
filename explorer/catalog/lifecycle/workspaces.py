"""Which tenants does a principal query together, and which of them may the workspace's login read?

A workspace belongs to one principal, or to the operator, and has a login of its own. Rows say what is wanted;
`explorer.workspaces` makes the login's rights follow.
"""

import re
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from explorer.catalog.access.principals import Scope
from explorer.catalog.audit.log import OPERATOR, change, record
from explorer.catalog.errors import UnknownWorkspace, WorkspaceInvalid
from explorer.catalog.lifecycle.schemas import LIVE
from explorer.catalog.secrets.keyring import Keyring
from explorer.catalog.storage.database import Database
from explorer.catalog.storage.tables import grants, principals, schemas, tenants, workspace_members, workspaces
from explorer.catalog.tenants.tenant import Tenant, TenantStatus
from explorer.contract.schemas import TenantSchemas
from explorer.core.jsonb import storable

# Each member is an arm of every table's union, and a place where a statement may wait.
MAX_MEMBERS = 30
# Each is a login with connections of its own.
MAX_OF_ONE = 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_PASSWORD_BYTES = 24


@dataclass(frozen=True)
class Workspace:
    """A set of tenants. `principal`: name of its owner, None for the operator; `role`: name of its login; `members`: keys of its
    tenants, those too that were removed or may no longer be queried; `is_dropped`: only its login is still there."""

    id: UUID
    principal: str | None
    name: str
    role: str
    members: tuple[str, ...]
    created_at: datetime
    is_dropped: bool = False
    sealed: bytes = field(default=b"", repr=False)


class WorkspaceStore:
    """The workspaces of all principals."""

    def __init__(self, database: Database, keyring: Callable[[], Keyring]) -> None:
        self._database, self._keyring = database, keyring

    def set(
        self, owner: UUID | None, name: str, members: Collection[Tenant], *, actor: str = OPERATOR, is_new: bool = False
    ) -> Workspace:
        """Make the workspace, or give it these members instead of its own. `owner`: a principal's id, None for the operator;
        `is_new`: it must not be there yet. That the owner may query the tenants is for the caller to check.

        Raises:
            WorkspaceInvalid: an unusable name, no tenant or too many, or the owner has too many workspaces.
        """
        ids = {tenant.id for tenant in members}
        _check(name, len(ids))
        with self._database.begin() as connection:
            connection.execute(
                select(func.pg_advisory_xact_lock(func.hashtextextended(f"explorer.workspaces:{owner}", 0)))
            )
            id_ = connection.scalar(select(workspaces.c.id).where(*_named(owner, name)))
            if id_ is not None and is_new:
                raise WorkspaceInvalid(
                    f"There is a workspace {name} already.", next_step="Choose another name, or change that one."
                )
            if id_ is None:
                id_ = self._make(connection, owner, name)
            connection.execute(delete(workspace_members).where(workspace_members.c.workspace_id == id_))
            connection.execute(
                insert(workspace_members), [{"workspace_id": id_, "tenant_id": tenant_id} for tenant_id in ids]
            )
            keys = sorted(tenant.key for tenant in members)
            record(connection, change("set_workspace", actor=actor, workspace=name, tenants=keys))
            return _read(connection, workspaces.c.id == id_)[0]

    def drop(self, owner: UUID | None, name: str, *, actor: str = OPERATOR) -> Workspace:
        """Take the workspace away; from now on nobody can query it. Its row goes with `forget`, after its login.

        Raises:
            UnknownWorkspace
        """
        with self._database.begin() as connection:
            id_ = connection.scalar(
                update(workspaces)
                .where(*_named(owner, name))
                .values(dropped_at=func.clock_timestamp())
                .returning(workspaces.c.id)
            )
            if id_ is None:
                raise unknown_workspace(name)
            record(connection, change("drop_workspace", actor=actor, workspace=name))
            return _read(connection, workspaces.c.id == id_)[0]

    def forget(self, workspace: Workspace) -> None:
        """Delete a workspace that was dropped and whose login is gone."""
        with self._database.single() as connection:
            connection.execute(
                delete(workspaces).where(workspaces.c.id == workspace.id, workspaces.c.dropped_at.is_not(None))
            )

    def get(self, owner: UUID | None, name: str) -> Workspace:
        """The owner's workspace of this name.

        Raises:
            UnknownWorkspace
        """
        with self._database.single() as connection:
            found = _read(connection, *_named(owner, name))
        if not found:
            raise unknown_workspace(name)
        return found[0]

    def of(self, owner: UUID | None) -> list[Workspace]:
        """The owner's workspaces, by name."""
        with self._database.single() as connection:
            return _read(
                connection, workspaces.c.principal_id.is_not_distinct_from(owner), workspaces.c.dropped_at.is_(None)
            )

    def all(self) -> list[Workspace]:
        """All workspaces of all owners, those too that were dropped and whose login may still be there."""
        with self._database.single() as connection:
            return _read(connection)

    def by_id(self, id_: UUID) -> Workspace | None:
        """The workspace of this id, also one that was dropped."""
        with self._database.single() as connection:
            return next(iter(_read(connection, workspaces.c.id == id_)), None)

    def with_member(self, tenant: Tenant) -> list[Workspace]:
        """The workspaces that this tenant is in."""
        holding = select(workspace_members.c.workspace_id).where(workspace_members.c.tenant_id == tenant.id)
        with self._database.single() as connection:
            return _read(connection, workspaces.c.id.in_(holding))

    def password(self, workspace: Workspace) -> str:
        """The password of its login. Raises: KeyringMismatch."""
        return workspace_password(self._keyring(), workspace.id, workspace.sealed)

    def readers(self, workspace: Workspace) -> list[str]:
        """The logins whose rights the workspace's login may have now: the readers of its members that are active, have schemas,
        and may be queried by its owner."""
        owned = workspaces.c.principal_id
        may = select(grants.c.tenant_id).join(principals, principals.c.id == grants.c.principal_id)
        may = may.where(
            grants.c.principal_id == owned,
            grants.c.tenant_id == tenants.c.id,
            grants.c.scopes.contains([Scope.QUERY_RUN]),
            principals.c.revoked_at.is_(None),
        )
        query = (
            select(schemas.c.prefix)
            .join(tenants, tenants.c.id == schemas.c.tenant_id)
            .join(workspace_members, workspace_members.c.tenant_id == tenants.c.id)
            .join(workspaces, workspaces.c.id == workspace_members.c.workspace_id)
            .where(
                workspaces.c.id == workspace.id,
                workspaces.c.dropped_at.is_(None),
                tenants.c.status == TenantStatus.ACTIVE,
                schemas.c.state.in_(LIVE),
                owned.is_(None) | may.exists(),
            )
        )
        with self._database.single() as connection:
            return sorted(TenantSchemas(row.prefix).ro for row in connection.execute(query))

    def _make(self, connection: Connection, owner: UUID | None, name: str) -> UUID:
        mine = (workspaces.c.principal_id.is_not_distinct_from(owner), workspaces.c.dropped_at.is_(None))
        if connection.execute(select(func.count()).select_from(workspaces).where(*mine)).scalar_one() >= MAX_OF_ONE:
            raise WorkspaceInvalid(
                f"There are {MAX_OF_ONE} workspaces already, and nobody may have more.",
                next_step="Drop one of them first.",
            )
        id_ = uuid4()
        sealed = self._keyring().encrypt(workspace_purpose(id_), secrets.token_urlsafe(_PASSWORD_BYTES).encode())
        role = f"w_{secrets.token_hex(4)}"
        connection.execute(insert(workspaces).values(id=id_, principal_id=owner, name=name, role=role, password=sealed))
        return id_


def workspace_purpose(id_: UUID) -> str:
    """The keyring's purpose for the password of a workspace's login."""
    return f"workspace:{id_}"


def workspace_password(keyring: Keyring, id_: UUID, sealed: bytes) -> str:
    """The password of a workspace's login. Raises: KeyringMismatch."""
    return keyring.decrypt(workspace_purpose(id_), sealed).decode()


def unknown_workspace(name: str) -> UnknownWorkspace:
    """The error for a name that none of the owner's workspaces has."""
    return UnknownWorkspace(
        f"There is no workspace {name[:80]!r}.", next_step="list_workspaces (`explorer workspaces list`) shows them."
    )


def _check(name: str, members: int) -> None:
    if not _NAME.fullmatch(name):
        raise WorkspaceInvalid(
            "A workspace cannot have this name.",
            next_step="Use up to 63 letters, digits, dots, dashes and underscores, the first a letter or digit.",
        )
    if not 0 < members <= MAX_MEMBERS:
        raise WorkspaceInvalid(
            f"A workspace has 1 to {MAX_MEMBERS} tenants, not {members}.", next_step="Name the tenants that it is for."
        )


def _named(owner: UUID | None, name: str) -> tuple[ColumnElement[bool], ...]:
    return (
        workspaces.c.principal_id.is_not_distinct_from(owner),
        workspaces.c.name == storable(name),
        workspaces.c.dropped_at.is_(None),
    )


def _read(connection: Connection, *where: ColumnElement[bool]) -> list[Workspace]:
    keys = (
        select(func.array_agg(tenants.c.key))
        .join(workspace_members, workspace_members.c.tenant_id == tenants.c.id)
        .where(workspace_members.c.workspace_id == workspaces.c.id)
        .scalar_subquery()
    )
    query = (
        select(workspaces, principals.c.name.label("owner"), keys.label("keys"))
        .outerjoin(principals, principals.c.id == workspaces.c.principal_id)
        .where(*where)
        .order_by(principals.c.name.asc().nulls_first(), workspaces.c.name)
    )
    return [_workspace(row) for row in connection.execute(query)]


def _workspace(row: Any) -> Workspace:
    return Workspace(
        row.id, row.owner, row.name, row.role, tuple(sorted(row.keys or ())), row.created_at, row.dropped_at is not None,
        row.password,
    )  # fmt: skip
