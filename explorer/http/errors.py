"""In which ways can a provider's server refuse or fail? One class per way; the list is closed.

An error's `code` is the provider's name and the class's `kind` (`<provider>_throttled`). Code that serves all providers compares
classes, or stored codes by `is_code`. `details` may hold `status` (HTTP), `resource`, `page` (from 1) and `reason` (the server's
own short sentence); never credentials or response bodies. Transient errors are also `TransientError`.
"""

from typing import Any, ClassVar

from explorer.core.errors import ExplorerError, TransientError


class ApiError(ExplorerError):
    """Base of all errors of a provider's server. `provider`: its name."""

    kind: ClassVar[str] = "error"
    # Whether the same request, or a smaller one, would fail again. The client sets it on each error that it raises.
    is_final = False

    def __init__(
        self, message: str, *, provider: str, next_step: str = "", details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message, next_step=next_step, details=details)
        self.provider = provider
        self.code = self.code_for(provider)

    @classmethod
    def code_for(cls, provider: str) -> str:
        """The code of this class's errors with this provider."""
        return f"{provider}_{cls.kind}"

    @classmethod
    def is_code(cls, code: object) -> bool:
        """Whether the `code` of a stored error is of this class, whatever the provider."""
        return isinstance(code, str) and code.endswith(f"_{cls.kind}")


class CredentialsInvalid(ApiError):
    """The server does not accept the credential. An access token is renewed once before this is raised."""

    kind = "credentials_invalid"


class TenantUnknown(ApiError):
    """The tenant does not exist on this server, or the user is no member of it: servers do not distinguish the two."""

    kind = "tenant_unknown"


class NotAllowed(ApiError):
    """The credential may not read this resource; others may be allowed."""

    kind = "not_allowed"


class PermissionMissing(NotAllowed):
    """The user's role or plan does not include this resource."""

    kind = "permission_missing"


class CutOff(ApiError):
    """The server has blocked the tenant's API access after too many requests. Only its support can lift the block."""

    kind = "cut_off"


class RequestRefused(ApiError):
    """The server calls the request wrong (400, 405): server and client do not agree on the API."""

    kind = "request_refused"


class ResourceUnknown(ApiError):
    """The server has no such resource (404): it is older than the API that the pipeline names."""

    kind = "resource_unknown"


class NoSuchRecord(ResourceUnknown):
    """The API states that the requested record does not exist."""

    kind = "no_such_record"


class Throttled(ApiError, TransientError):
    """The request allowance is used up for longer than a run waits."""

    kind = "throttled"

    @property
    def retry_after_s(self) -> float | None:
        """Seconds until the server answers again, if it said."""
        seconds = self.details.get("retry_after_s")
        return float(seconds) if seconds is not None else None


class Unreachable(ApiError, TransientError):
    """No answer: name resolution, connection, TLS or time limit."""

    kind = "unreachable"


class WrongServer(ApiError):
    """The address cannot be used, or it is not a server of the provider. Its kind names the provider."""

    kind = "not_the_provider"

    @classmethod
    def code_for(cls, provider: str) -> str:
        return f"{provider}_not_{provider}"

    @classmethod
    def is_code(cls, code: object) -> bool:
        before, _, after = str(code).partition("_not_")
        return bool(before) and before == after


class ResponseMalformed(ApiError):
    """An answer of an unexpected shape. Details name the resource and the page."""

    kind = "response_malformed"


class ServerError(ApiError, TransientError):
    """The server failed (5xx) on every try."""

    kind = "server_error"
