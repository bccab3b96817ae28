"""What does the client need to know about a provider's HTTP API? Addresses, credentials and the meaning of refusals."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import msgspec

from explorer.http.address import Server
from explorer.http.errors import ApiError

_REASON_MAX_CHARS = 200


@dataclass(frozen=True)
class Service:
    """A provider's names for error codes and texts.

    `name`: first part of error codes; `product`: the software of its servers; `unit`: its word for a tenant, which shares one
    request allowance; `unit_field`: key of the tenant's id in error details; `credential`: what a person checks after a refusal;
    `credential_parts`: what they copy again; `example_url`: a well-formed server address; `token_path`: of the OAuth token
    endpoint; `refresh_lifetime`: how long a refresh token lives.
    """

    name: str
    product: str
    unit: str
    unit_field: str
    credential: str
    credential_parts: str
    example_url: str
    token_path: str
    refresh_lifetime: str


@dataclass(frozen=True)
class Caller:
    """Who sends the requests: `server` (host), `tenant_id` there, `username` of an API key, and `lifted_by`, the command that
    ends a shared pause."""

    service: Service
    server: str
    tenant_id: str
    username: str | None = None
    lifted_by: str = ""

    def __str__(self) -> str:
        user = f" (user {self.username})" if self.username else ""
        return f"{self.service.unit} {self.tenant_id!r} on {self.server}{user}"


@dataclass(frozen=True)
class Refusal:
    """An answer with another status than 200. `request`: the request's name in errors (`resource`, `page`)."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    request: Mapping[str, Any]
    caller: Caller

    @property
    def resource(self) -> str:
        return str(self.request["resource"])

    @cached_property
    def reason(self) -> str:
        """The server's own sentence, if any: `{"error": text}`, a JSON list of texts, or short plain text."""
        text = self.body[:2000].decode("utf-8", "replace").strip()
        if not text or text.startswith("<"):
            return ""
        try:
            value = msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            value = text
        if isinstance(value, dict):
            value = next((value[key] for key in ("error", "error_message", "errors", "detail") if value.get(key)), "")
        if isinstance(value, list):
            value = "; ".join(part for part in value if isinstance(part, str))
        printable = "".join(c if c.isprintable() else " " for c in value) if isinstance(value, str) else ""
        return " ".join(printable.split())[:_REASON_MAX_CHARS]

    @property
    def said(self) -> str:
        """The reason as part of a sentence."""
        return f" ({self.reason.rstrip('.')})" if self.reason else ""

    def error(self, kind: type[ApiError], message: str, next_step: str, **details: Any) -> ApiError:
        """An error about this answer."""
        known = {**self.request, "status": self.status, **({"reason": self.reason} if self.reason else {})}
        return kind(message, provider=self.caller.service.name, next_step=next_step, details={**known, **details})


class Api(Protocol):
    """A provider's API for one tenant."""

    @property
    def service(self) -> Service: ...

    @property
    def tenant_id(self) -> str: ...

    def url(self, server: Server, endpoint: str, *, of_tenant: bool) -> str:
        """Address of an endpoint, of the tenant or of the whole server."""
        ...

    def headers(self, credential: Any) -> Mapping[str, str]:
        """Headers for a credential that is no OAuth grant."""
        ...

    def read(self, refusal: Refusal) -> ApiError | None:
        """The provider's reading of a refusal; None when its status says enough."""
        ...

    def is_no_such_record(self, refusal: Refusal) -> bool:
        """Whether the answer to a request for one record is the API's statement that it does not exist, and no other refusal."""
        ...
