"""Clients of servers in memory."""

from typing import Any

import httpx

from explorer.catalog.secrets.credentials import ApiKeyCredential
from explorer.core.settings import Settings
from explorer.http.limiter import RateLimiter
from explorer.providers.commcare.client import CommCareClient

SETTINGS = Settings(_env_file=None, requests_per_second=1000, http_max_retry_after_s=10)


class Wide(RateLimiter):
    """A pace that feeds `width` requests at a time, however quick the server is."""

    def __init__(self, width: int) -> None:
        super().__init__(1000)
        self.width = width

    def allowed_parallelism(self, latency_s: float) -> int:
        return self.width


def client_of(server: Any, width: int) -> CommCareClient:
    return CommCareClient(
        "http://127.0.0.1", "d", ApiKeyCredential("u", "k"), settings=SETTINGS,
        transport=httpx.MockTransport(server), sleep=lambda _: None, limiter=Wide(width),
    )  # fmt: skip
