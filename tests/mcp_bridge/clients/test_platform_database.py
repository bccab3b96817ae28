"""The bridge's connections to the catalog: one set, however many calls come first."""

import asyncio

from mcp_bridge.clients.platform_database import PlatformDatabase
from tests.mcp_bridge.stage import Stage


def test_first_calls_of_one_moment_share_the_connections(stage: Stage, token: str) -> None:
    async def main() -> None:
        platform = PlatformDatabase(stage.settings)
        try:
            first, *others = await asyncio.gather(*(platform.calls() for _ in range(5)))
            assert all(each is first for each in others)
            assert await first.admission(token) is not None
        finally:
            platform.close_calls()

    asyncio.run(main())
