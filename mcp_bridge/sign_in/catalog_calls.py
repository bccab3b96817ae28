"""How does the sign-in reach the catalog? In threads, for a bounded time, and never without a trace in the audit."""

from collections.abc import Callable
from typing import Any, TypeVar

from explorer.catalog import AuditEntry, Catalog
from mcp_bridge.clients.timeouts import CATALOG_S, in_thread

T = TypeVar("T")


class CatalogCalls:
    """The catalog for the event loop."""

    def __init__(self, catalog: Callable[[], Catalog]) -> None:
        self._catalog = catalog

    async def ask(self, work: Callable[[Catalog], T]) -> T:
        """The result of `work`. Raises: DatabaseTimeout and the errors of the catalog."""
        return await in_thread(lambda: work(self._catalog()), within_s=CATALOG_S)

    async def audit(self, actor: str, action: str, outcome: str = "ok", code: str | None = None, **detail: Any) -> None:
        """Write what happened. What cannot be written has not happened: the caller lets the error through."""
        entry = AuditEntry(actor, action, None, outcome, code, detail)
        await self.ask(lambda catalog: catalog.audit.append(entry))
