"""How often within a minute? Limits of the endpoints for programs, shared by all bridges."""

from mcp_bridge.sign_in.catalog_calls import CatalogCalls
from mcp_bridge.sign_in.endpoints.answers import OAuthError


async def bounded(catalog: CatalogCalls, what: str, most: int) -> None:
    """Count `what`. Raises: OAuthError: it was there `most` times within this minute already."""
    if wait_s := await catalog.ask(lambda found: found.rates.take(what, most, 60)):
        raise OAuthError("slow_down", "Too many requests within a minute.", 429, wait_s)
