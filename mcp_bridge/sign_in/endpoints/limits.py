"""How often within a minute? Limits of the endpoints for programs, shared by all bridges."""

import logging

from explorer.core.errors import ExplorerError
from mcp_bridge.sign_in.catalog_calls import CatalogCalls
from mcp_bridge.sign_in.endpoints.answers import OAuthError

_WINDOW_S = 60
_log = logging.getLogger(__name__)


async def bounded(catalog: CatalogCalls, what: str, most: int) -> None:
    """Count `what`. Raises: OAuthError: it was there `most` times within this minute already."""
    _refuse(await catalog.ask(lambda found: found.rates.take(what, most, _WINDOW_S)))


async def within(catalog: CatalogCalls, what: str, most: int) -> None:
    """As `bounded`, for what is counted by `counted` when it has succeeded."""
    _refuse(await catalog.ask(lambda found: found.rates.used_up(what, most)))


async def counted(catalog: CatalogCalls, what: str, most: int) -> None:
    """Count `what`, which has happened: it stays so if that fails, which is logged."""
    try:
        await catalog.ask(lambda found: found.rates.take(what, most, _WINDOW_S))
    except ExplorerError as error:
        _log.warning("Not counted: %s. %s [%s]", what, error.message, error.code)


def _refuse(wait_s: float) -> None:
    if wait_s:
        raise OAuthError("slow_down", "Too many requests within a minute.", 429, wait_s)
