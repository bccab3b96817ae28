"""`explorer dictionary`: writes what the bridge knows of a tenant's tables into a file, also while the platform is stopped."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from explorer.core.settings import Settings
from explorer.providers import faults_of, provider_named
from explorer_cli.errors import UsageInvalid
from explorer_cli.output.terminal import answer_json, say
from explorer_cli.platform.context import open_settings
from explorer_cli.platform.store import open_store
from mcp_bridge.clients.timeouts import in_thread
from mcp_bridge.composition import Parts, Services
from mcp_bridge.dictionary.contents import Dictionary
from mcp_bridge.dictionary.csv_rows import as_csv
from mcp_bridge.dictionary.markdown import as_markdown
from mcp_bridge.dictionary.page import as_html
from mcp_bridge.gate.access import Caller

_WRITTEN: Mapping[str, Callable[[Dictionary], str]] = {"html": as_html, "md": as_markdown, "csv": as_csv}


def write_dictionary(key: str, file: Path | None, form: str, *, as_json: bool) -> int:
    """Write the file; one that is there is replaced.

    Raises: UnknownTenant, SchemaAbsent, DatabaseNotReady, UsageInvalid.
    """
    target = file or Path(f"{key.replace(':', '-')}.{form}")
    if not target.parent.is_dir() or target.is_dir():
        raise UsageInvalid(f"{target} is no file in a folder that exists.", next_step="Give another FILE.")
    settings = open_settings()
    with open_store(settings):
        found = asyncio.run(_read(settings, key))
    # The lines of CSV end as its standard says.
    target.write_text(_WRITTEN[form](found), encoding="utf-8", newline="")
    columns = sum(len(table.columns) for table in found.tables)
    if as_json:
        counts = {"tables": len(found.tables), "columns": columns, "languages": found.languages}
        answer_json({"tenant": key, "file": str(target.resolve()), **counts, "warnings": list(found.warnings)})
        return 0
    for warning in found.warnings:
        say(("Note", "yellow"), f"  {warning}")
    say((str(target), "green"), f": {len(found.tables)} tables with {columns} columns.")
    return 0


async def _read(settings: Settings, key: str) -> Dictionary:
    """The dictionary of what the tenant's agents may see."""
    services = Services.compose(settings, Parts(provider_named, faults_of))
    try:
        tenant = await in_thread(lambda: services.platform.catalog.tenants.get(key))
        budget = await services.budgets.admit(Caller.operator(), tenant)
        return await services.dictionaries.of(tenant, budget.limits.personal_data or settings.personal_data)
    finally:
        await services.aclose()
