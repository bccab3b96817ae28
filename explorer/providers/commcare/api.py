"""How is CommCare HQ's API addressed, and what do its refusals mean? The provider's part of the shared HTTP client."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from explorer.http.address import Server
from explorer.http.api import Refusal, Service
from explorer.http.errors import ApiError
from explorer.providers.commcare import refusals
from explorer.providers.commcare.settings import SERVICE


@dataclass(frozen=True)
class CommCareApi:
    """The API of one project space."""

    domain: str
    service: Service = SERVICE

    @property
    def tenant_id(self) -> str:
        return self.domain

    def url(self, server: Server, endpoint: str, *, of_tenant: bool) -> str:
        """`{server}/a/{domain}/api/{endpoint}`, or `{server}/api/{endpoint}` for the whole installation."""
        scope = f"/a/{quote(self.domain, safe='')}" if of_tenant else ""
        return f"{server.base}{scope}/api/{endpoint}"

    def headers(self, credential: Any) -> Mapping[str, str]:
        """An API key is sent with its user."""
        return {"Authorization": f"ApiKey {credential.username}:{credential.api_key}"}

    def read(self, refusal: Refusal) -> ApiError | None:
        return refusals.read(refusal)

    def is_no_such_record(self, refusal: Refusal) -> bool:
        return refusals.is_no_such_record(refusal)
