"""`explorer limits`: sets and shows budgets and bounds of a tenant and of principals there."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from explorer.catalog import Limits, Tenant, budget_key
from explorer.core.settings import Settings
from explorer_cli.output.tables import show_table
from explorer_cli.output.terminal import answer_json, say
from explorer_cli.platform.context import open_settings
from explorer_cli.platform.store import Store, open_store


def set_limits(key: str, principal: str | None, values: Mapping[str, Any], *, as_json: bool) -> int:
    """Set limits for each principal of the tenant, or for one. An empty name in a list of tables lifts the list."""
    settings = open_settings()
    with open_store(settings) as store:
        tenant = store.catalog.tenants.get(key)
        limits = store.catalog.limits.set(tenant, _with_lifted(values), principal)
    if as_json:
        answer_json({"tenant": tenant.key, "principal": principal, "limits": limits.given()})
    else:
        whom = principal or "each principal"
        say(f"For {whom} at {tenant.key}: {_shown(limits) or 'no limits but the general ones'}.")
    return 0


def clear_limits(key: str, principal: str | None, *, as_json: bool) -> int:
    """Remove limits, and open the windows of those whom they were for."""
    settings = open_settings()
    with open_store(settings) as store:
        tenant = store.catalog.tenants.get(key)
        principals = store.catalog.principals.of(tenant)
        cleared = store.catalog.limits.clear(tenant, principal)
        for name, id_ in principals.items():
            if principal in (None, name):
                store.catalog.usage.forget(budget_key(id_, tenant.id))
    if as_json:
        answer_json({"tenant": tenant.key, "principal": principal, "cleared": cleared})
    else:
        say(f"The general limits hold for {principal or 'each principal'} at {tenant.key}.")
    return 0


def show_limits(key: str, *, as_json: bool) -> int:
    """Show the limits in force for each principal of the tenant, and what is used."""
    settings = open_settings()
    with open_store(settings) as store:
        tenant = store.catalog.tenants.get(key)
        stored = {each.principal: each.limits for each in store.catalog.limits.of(tenant)}
        rows = [
            _row(settings, store, tenant, name, id_, stored.get(name, Limits()))
            for name, id_ in store.catalog.principals.of(tenant).items()
        ]
    general = stored.get(None, Limits())
    if as_json:
        defaults = _defaults(settings)
        answer_json(
            {
                "tenant": tenant.key, "window_s": settings.budget_window_s, "defaults": defaults.given(),
                "limits": general.given(), "principals": rows,
            }
        )  # fmt: skip
        return 0
    say(f"{tenant.key}: {_shown(general.over(_defaults(settings)))}.")
    show_table(
        ("Principal", "Own limits", "Used in this window", "Window ends in s"),
        [[row["name"], row["own"], row["used"], row["window_ends_in_s"]] for row in rows],
        empty="No principal may use it.",
    )
    return 0


def _row(settings: Settings, store: Store, tenant: Tenant, name: str, id_: UUID, own: Limits) -> dict[str, Any]:
    used = store.catalog.usage.used(budget_key(id_, tenant.id), settings.budget_window_s)
    amounts = used.amounts
    return {
        "name": name,
        "own": own.given(),
        "used": {
            "calls": amounts.calls, "rows": amounts.rows, "bytes": amounts.bytes, "seconds": round(amounts.ms / 1000),
        },
        "window_ends_in_s": round(used.left_s),
    }  # fmt: skip


def _defaults(settings: Settings) -> Limits:
    return Limits(
        settings.budget_calls, settings.budget_rows, settings.budget_bytes, settings.budget_seconds,
        settings.query_max_rows, settings.query_timeout_s,
    )  # fmt: skip


def _with_lifted(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if value == [""] else value for name, value in values.items()}


def _shown(limits: Limits) -> str:
    return ", ".join(f"{name} {', '.join(v) if isinstance(v, tuple) else v}" for name, v in limits.given().items())
