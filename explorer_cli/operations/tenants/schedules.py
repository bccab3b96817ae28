"""When tenants are updated by themselves: what they follow, their next turns, what holds them back, and how that is changed."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from explorer.catalog import OPERATOR, Sync, Tenant
from explorer.catalog.coordination.syncs import RESET, chosen_of, is_late
from explorer.providers import faults_of
from explorer.registry import Pipeline, load_pipelines
from explorer_cli.errors import UsageInvalid
from explorer_cli.output.tables import show_table
from explorer_cli.output.terminal import answer_json, say
from explorer_cli.platform.context import open_settings
from explorer_cli.platform.store import Store, open_store

# Of a failure in the list; `--json` and `tenants schedule KEY` have all of it.
_WORDS = 60


def schedule(key: str, pipeline_name: str, given: Mapping[str, Any], *, reset: bool, as_json: bool) -> int:
    """Change what is given, if anything is, and show what holds then."""
    settings = open_settings()
    with open_store(settings) as store:
        tenant = store.catalog.tenants.get(key)
        pipeline = _pipeline(_pipelines(store), tenant, pipeline_name)
        chosen = chosen_of(pipeline, {name: value for name, value in given.items() if value is not None})
        if reset:
            chosen = dict.fromkeys(RESET) | {"is_stopped": False} | chosen
        if chosen:
            store.catalog.syncs.configure(tenant, pipeline.name, chosen, actor=OPERATOR)
        row = _row(tenant, pipeline, store.catalog.syncs.of(tenant, pipeline.name))
    if as_json:
        answer_json({"tenant": tenant.key, **row})
    else:
        show_table(("", tenant.key), [[name.replace("_", " "), _shown(value)] for name, value in row.items()])
        say("Turns are taken while the pipeline's schedule runs in Dagster.")
    return 0


def turns_of(store: Store, tenants: Sequence[Tenant]) -> dict[UUID, list[dict[str, Any]]]:
    """For each tenant a row per pipeline, as `--json` shows it."""
    pipelines = _pipelines(store)
    syncs = {pipeline.name: store.catalog.syncs.all(pipeline.name) for pipeline in pipelines}
    return {
        tenant.id: [
            _row(tenant, pipeline, syncs[pipeline.name].get(tenant.id, Sync(pipeline.name)))
            for pipeline in pipelines
            if pipeline.provider == tenant.provider
        ]
        for tenant in tenants
    }


def in_words(rows: object) -> str:
    """The next turn of the first pipeline, or what keeps it away."""
    first = next(iter(rows), None) if isinstance(rows, list) else None
    if first is None or first["next"] is None:
        return "stopped" if first and first["is_stopped"] else ""
    if first["held_until"]:
        return f"held until {first['held_until']:%Y-%m-%d %H:%M}: {str(first['failure'])[:_WORDS]}"
    return f"{first['next']:%Y-%m-%d %H:%M}"


def _row(tenant: Tenant, pipeline: Pipeline, sync: Sync) -> dict[str, Any]:
    now = datetime.now(UTC)
    own = sync.schedule(pipeline.schedule)
    full = sync.schedule(pipeline.full_refresh, full_refresh=True)
    return {
        "pipeline": pipeline.name,
        "cron": own.cron if own else None,
        "full_refresh_cron": full.cron if full else None,
        "timezone": own.timezone if own else None,
        "is_stopped": sync.is_stopped,
        "requests_per_day": sync.requests_per_day,
        "next": sync.next_turn(tenant, pipeline.schedule, now),
        "next_full_refresh": sync.next_turn(tenant, pipeline.full_refresh, now, full_refresh=True),
        "looked_at": sync.looked_at,
        "fresh_within_s": sync.target_s(pipeline.schedule),
        "is_late": is_late(sync, pipeline.schedule, now),
        "failures": sync.failures,
        "failure": sync.failure["message"] if sync.failure else None,
        "held_until": sync.held_until if sync.held_until is not None and sync.held_until > now else None,
    }


def _pipelines(store: Store) -> list[Pipeline]:
    return list(load_pipelines(store.settings.project_dir / "pipelines", faults_of).values())


def _pipeline(pipelines: Sequence[Pipeline], tenant: Tenant, name: str) -> Pipeline:
    own = {pipeline.name: pipeline for pipeline in pipelines if pipeline.provider == tenant.provider}
    chosen = own.get(name) if name else next(iter(own.values()), None)
    if chosen is None:
        raise UsageInvalid(
            f"{tenant.key} has no pipeline {name}.", next_step=f"Give one of: {', '.join(own) or 'none'}."
        )
    return chosen


def _shown(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M} UTC"
    return "" if value is None else str(value)
