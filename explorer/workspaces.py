"""Makes the logins of workspaces follow what the catalog says: who is a member, who may be queried, what was dropped.

Needs the administrator's login: the provisioning job and commands call it. The bridge looks at members and grants at each call,
and gives no row of others, whether this was called or not.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager

import psycopg

from explorer.catalog.catalog import Catalog
from explorer.catalog.lifecycle.workspaces import Workspace
from explorer.catalog.tenants.tenant import Tenant
from explorer.postgres.connections import Connections
from explorer.postgres.provisioning import deprovision_workspace, provision_workspace


def align(catalog: Catalog, connections: Connections, workspaces: Iterable[Workspace]) -> list[Workspace]:
    """Give each workspace's login the rights of the tenants that it may read now, no more and no fewer; make it where it is
    missing, and drop that of a workspace that was dropped. Returns the workspaces whose rights have changed.

    Raises:
        DatabaseUnreachable, KeyringMismatch, CatalogUnavailable.
    """
    chosen = list(workspaces)
    if not chosen:
        return []
    with _admin(connections) as admin:
        return [workspace for workspace in chosen if _align_one(catalog, admin, workspace)]


def align_with(catalog: Catalog, connections: Connections, tenant: Tenant) -> list[Workspace]:
    """The same for the workspaces that this tenant is in: its schemas, or the rights on them, have changed."""
    return align(catalog, connections, catalog.workspaces.with_member(tenant))


def align_all(catalog: Catalog, connections: Connections) -> list[Workspace]:
    """The same for all: a principal's rights have changed."""
    return align(catalog, connections, catalog.workspaces.all())


def _align_one(catalog: Catalog, admin: psycopg.Connection, workspace: Workspace) -> bool:
    if workspace.is_dropped:
        deprovision_workspace(admin, workspace.role)
        catalog.workspaces.forget(workspace)
        return True
    return provision_workspace(
        admin,
        workspace.role,
        password=catalog.workspaces.password(workspace),
        readers=catalog.workspaces.readers(workspace),
    )


@contextmanager
def _admin(connections: Connections) -> Iterator[psycopg.Connection]:
    with closing(connections.admin.connect(autocommit=True)) as connection:
        yield connection
