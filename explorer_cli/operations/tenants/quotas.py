"""How much tenants may load in a day, what they have used of it, and how that is changed."""

from collections.abc import Mapping
from typing import Any

from explorer.catalog import OPERATOR, QuotaUse
from explorer.catalog.coordination.quotas import MEASURES
from explorer_cli.output.tables import show_table
from explorer_cli.output.terminal import answer_json, say
from explorer_cli.platform.context import open_settings
from explorer_cli.platform.store import open_store


def quota(key: str, given: Mapping[str, int | None], *, reset: bool, as_json: bool) -> int:
    """Change what is given, if anything is, and show what holds then."""
    settings = open_settings()
    with open_store(settings) as store:
        tenant, quotas = store.catalog.tenants.get(key), store.catalog.quotas
        values = {name: value for name, value in given.items() if value is not None}
        chosen = dict.fromkeys(MEASURES) | values if reset else values
        if chosen:
            quotas.set(tenant, chosen, actor=OPERATOR)
        if reset:
            quotas.forget(tenant)
        use = quotas.use([tenant.id])[tenant.id]
    if as_json:
        answer_json({"tenant": tenant.key, **as_object(use)})
        return 0
    show_table(
        ("", "May use in a day", "Has used", "Day ends in s"),
        [
            [name, getattr(use.quota, name) or "any number", use.used[name], round(use.left_s[name])]
            for name in MEASURES
        ],
    )
    if words := in_words(use):
        say((f"{words[0].upper()}{words[1:]}.", "yellow"))
    return 0


def as_object(use: QuotaUse) -> dict[str, Any]:
    """As `--json` shows it; a quota of 0 is any number."""
    return {
        "quota": use.quota.given(),
        "used": dict(use.used),
        "exhausted": use.exhausted,
        "again_at": use.again_at,
    }


def in_words(use: QuotaUse) -> str:
    """What keeps the tenant from loading; empty when nothing does."""
    at = use.again_at
    return f"{use.exhausted} of the day are used up until {at:%Y-%m-%d %H:%M} UTC" if at is not None else ""
