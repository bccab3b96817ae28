"""`explorer tokens`: principals and their bearer tokens. A token is shown once, on stdout; only its hash is stored."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from explorer.catalog import DEFAULT_SCOPES, Scope
from explorer.core.toolsets import Toolset
from explorer_cli.operations.tenants.workspaces import follow_rights
from explorer_cli.output.tables import show_table
from explorer_cli.output.terminal import answer_json, say, write
from explorer_cli.platform.context import open_settings
from explorer_cli.platform.store import open_store


def create(
    name: str,
    *,
    tenants: Sequence[str],
    scopes: Sequence[str] | None,
    expires_days: int | None,
    toolsets: str = "",
    as_json: bool,
) -> int:
    """Create principal `name` and print its token and nothing else."""
    settings = open_settings()
    wanted = frozenset(Scope.parse(scope) for scope in scopes) if scopes else DEFAULT_SCOPES
    shown = Toolset.listed(toolsets)
    expires_at = datetime.now(UTC) + timedelta(days=expires_days) if expires_days else None
    with open_store(settings) as store:
        granted = [store.catalog.tenants.get(key) for key in tenants]
        token = store.catalog.principals.create_token(name, granted, wanted, expires_at, shown)
    if as_json:
        answer_json(
            {
                "name": name,
                "token": token,
                "tenants": list(tenants),
                "scopes": wanted,
                "toolsets": shown,
                "expires_at": expires_at,
            }
        )
    else:
        write(token)
    return 0


def show_list(*, as_json: bool) -> int:
    """Show all principals that are not revoked."""
    settings = open_settings()
    with open_store(settings) as store:
        principals = store.catalog.principals.list()
    if as_json:
        rows = [
            {
                "name": principal.name,
                "grants": principal.grants,
                "toolsets": principal.toolsets,
                "created_at": principal.created_at,
                "expires_at": principal.expires_at,
                "last_used_at": principal.last_used_at,
            }
            for principal in principals
        ]
        answer_json({"tokens": rows})
        return 0
    show_table(
        ("Name", "May use", "More tools", "Made", "Ends", "Last used"),
        [
            (
                principal.name,
                "\n".join(f"{key}: {', '.join(sorted(scopes))}" for key, scopes in sorted(principal.grants.items())),
                ", ".join(sorted(principal.toolsets)) or "-",
                principal.created_at,
                principal.expires_at or "never",
                principal.last_used_at or "never",
            )
            for principal in principals
        ],
        empty="No tokens yet. `explorer tokens create --name NAME --tenant KEY` makes one.",
    )
    return 0


def revoke(name: str, *, as_json: bool) -> int:
    """Revoke a principal's tokens."""
    settings = open_settings()
    with open_store(settings) as store:
        store.catalog.principals.revoke(name)
        follow_rights(store)
    if as_json:
        answer_json({"revoked": name})
    else:
        say(f"Revoked {name}.")
    return 0
