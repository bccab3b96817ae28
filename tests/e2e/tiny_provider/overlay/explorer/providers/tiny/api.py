"""The addresses of Tiny's API."""

from dataclasses import dataclass
from typing import Any

from explorer.providers.tiny.settings import SERVICE

from explorer.http.address import Server
from explorer.http.api import Refusal, Service
from explorer.http.errors import ApiError


@dataclass(frozen=True)
class TinyApi:
    """The API of one garden."""

    garden: str
    service: Service = SERVICE

    @property
    def tenant_id(self) -> str:
        return self.garden

    def url(self, server: Server, endpoint: str, *, of_tenant: bool) -> str:
        scope = f"/gardens/{self.garden}" if of_tenant else ""
        return f"{server.base}/api{scope}/{endpoint}"

    def headers(self, credential: Any) -> dict[str, str]:
        return {"X-Tiny-Token": credential.fields["token"]}

    def read(self, refusal: Refusal) -> ApiError | None:
        return None

    def is_no_such_record(self, refusal: Refusal) -> bool:
        return False
