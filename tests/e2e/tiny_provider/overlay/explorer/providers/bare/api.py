"""The addresses of Bare's API."""

from dataclasses import dataclass
from typing import Any

from explorer.providers.bare.settings import SERVICE

from explorer.http.address import Server
from explorer.http.api import Refusal, Service
from explorer.http.errors import ApiError


@dataclass(frozen=True)
class BareApi:
    """The API of one site."""

    site: str
    service: Service = SERVICE

    @property
    def tenant_id(self) -> str:
        return self.site

    def url(self, server: Server, endpoint: str, *, of_tenant: bool) -> str:
        scope = f"/sites/{self.site}" if of_tenant else ""
        return f"{server.base}/v1{scope}/{endpoint}"

    def headers(self, credential: Any) -> dict[str, str]:
        return {"X-Bare-Key": credential.fields["key"]}

    def read(self, refusal: Refusal) -> ApiError | None:
        return None

    def is_no_such_record(self, refusal: Refusal) -> bool:
        return False
