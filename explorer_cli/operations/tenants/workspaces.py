"""`explorer workspaces`: sets of tenants that a principal queries together, and their logins."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

from explorer.catalog import Catalog, Scope, Tenant, Workspace, WorkspaceInvalid
from explorer.postgres.errors import LoginMissing
from explorer.workspaces import align, align_all
from explorer_cli.output.tables import show_table
from explorer_cli.output.terminal import answer_json, say
from explorer_cli.platform.context import open_settings
from explorer_cli.platform.store import Store, open_store

Members = Callable[[list[str]], list[str]]


def create(name: str, keys: Sequence[str], principal: str | None, *, as_json: bool) -> int:
    """Make a workspace of these tenants, with its login."""
    with open_store(open_settings()) as store:
        owner = _owner(store.catalog, principal)
        tenants = _queried(store.catalog, owner, principal, keys)
        made = store.catalog.workspaces.set(owner, name, tenants, is_new=True)
        align(store.catalog, store.connections, [made])
    return _tell(made, "is ready", as_json=as_json)


def change(name: str, keys: Sequence[str], principal: str | None, *, add: bool, as_json: bool) -> int:
    """Add tenants to a workspace, or take them out; the rights of its login follow."""
    with open_store(open_settings()) as store:
        owner = _owner(store.catalog, principal)
        workspaces = store.catalog.workspaces
        before = workspaces.get(owner, name)
        if add:
            added = _queried(store.catalog, owner, principal, keys)
            wanted = {tenant.key for tenant in added} | set(before.members)
        else:
            _refuse_strangers(before, keys)
            wanted = set(before.members) - set(keys)
        tenants = [t for t in store.catalog.tenants.list(include_removed=True) if t.key in wanted]
        now = workspaces.set(owner, name, tenants)
        align(store.catalog, store.connections, [now])
    return _tell(now, "has changed", as_json=as_json)


def drop(name: str, principal: str | None, *, as_json: bool) -> int:
    """Take a workspace away, with its login; the tenants and their data stay."""
    with open_store(open_settings()) as store:
        dropped = store.catalog.workspaces.drop(_owner(store.catalog, principal), name)
        align(store.catalog, store.connections, [dropped])
    return _tell(dropped, "is gone", as_json=as_json)


def show(name: str, principal: str | None, *, as_json: bool) -> int:
    """Show the members, and which of them can be queried now."""
    with open_store(open_settings()) as store:
        owner = _owner(store.catalog, principal)
        found = store.catalog.workspaces.get(owner, name)
        rows = _states(store, found)
    if as_json:
        answer_json(_row(found) | {"members": rows})
        return 0
    show_table(("Tenant", "Queried"), [(row["tenant"], row["why_not"] or "yes") for row in rows], empty="No tenants.")
    return 0


def show_list(*, as_json: bool) -> int:
    """Show all workspaces of all principals."""
    with open_store(open_settings()) as store:
        found = [workspace for workspace in store.catalog.workspaces.all() if not workspace.is_dropped]
    if as_json:
        answer_json({"workspaces": [_row(workspace) for workspace in found]})
        return 0
    show_table(
        ("Name", "Of", "Tenants", "Made"),
        [(w.name, w.principal or "operator", "\n".join(w.members), w.created_at) for w in found],
        empty="No workspaces yet. `explorer workspaces create NAME KEY KEY` makes one.",
    )
    return 0


def follow_rights(store: Store) -> None:
    """A principal's rights have changed: the logins of its workspaces lose them too. Where this process has no administrator's
    login, the next call that notices asks the provisioning job; the bridge gives no rows meanwhile."""
    with suppress(LoginMissing):
        align_all(store.catalog, store.connections)


def _owner(catalog: Catalog, principal: str | None) -> UUID | None:
    return catalog.principals.id_of(principal) if principal is not None else None


def _queried(catalog: Catalog, owner: UUID | None, principal: str | None, keys: Sequence[str]) -> list[Tenant]:
    """The tenants of these keys. Raises: WorkspaceInvalid: the owner may not query one of them."""
    tenants = [catalog.tenants.get(key) for key in dict.fromkeys(keys)]
    scopes = catalog.principals.scopes(owner) if owner is not None else {}
    for tenant in tenants:
        if owner is not None and Scope.QUERY_RUN not in scopes.get(tenant.key, ()):
            raise WorkspaceInvalid(
                f"{principal} may not query {tenant.key}.",
                next_step="`explorer tokens list` and `explorer people list` show who may use what.",
            )
    return tenants


def _refuse_strangers(workspace: Workspace, keys: Sequence[str]) -> None:
    for key in keys:
        if key not in workspace.members:
            raise WorkspaceInvalid(
                f"{key} is not in {workspace.name}.", next_step=f"In it are: {', '.join(workspace.members)}."
            )


def _states(store: Store, workspace: Workspace) -> list[dict[str, Any]]:
    readers = set(store.catalog.workspaces.readers(workspace))
    tenants = {tenant.key: tenant for tenant in store.catalog.tenants.list(include_removed=True)}
    schemas = store.catalog.schemas.of([tenants[key].id for key in workspace.members])
    return [
        {
            "tenant": key,
            "why_not": None if schemas[tenants[key].id].ro in readers else "removed, without schemas, or not granted",
        }
        for key in workspace.members
    ]


def _row(workspace: Workspace) -> dict[str, Any]:
    return {
        "name": workspace.name,
        "principal": workspace.principal,
        "tenants": workspace.members,
        "created_at": workspace.created_at,
    }


def _tell(workspace: Workspace, what: str, *, as_json: bool) -> int:
    if as_json:
        answer_json(_row(workspace))
    else:
        whose = f" of {workspace.principal}" if workspace.principal else ""
        say(f"The workspace {workspace.name}{whose} {what}: {', '.join(workspace.members)}.")
    return 0
