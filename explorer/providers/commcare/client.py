"""The shared HTTP client for one project space."""

from collections.abc import Callable

import httpx

from explorer.core.settings import Settings
from explorer.http.authorization import Credential, Refresh
from explorer.http.client import ApiClient
from explorer.http.limiter import RateLimiter
from explorer.providers.commcare.api import CommCareApi


class CommCareClient(ApiClient):
    """A project space's API; see `ApiClient`."""

    def __init__(
        self,
        server: str,
        domain: str,
        credential: Credential,
        *,
        settings: Settings,
        refresh: Refresh | None = None,
        limiter: RateLimiter | None = None,
        sleep: Callable[[float], object] | None = None,
        transport: httpx.BaseTransport | None = None,
        max_attempts: int | None = None,
    ) -> None:
        super().__init__(
            CommCareApi(domain), server, credential, settings=settings, refresh=refresh, limiter=limiter, sleep=sleep,
            transport=transport, max_attempts=max_attempts,
        )  # fmt: skip
