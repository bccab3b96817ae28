"""Which ways a CommCare server can refuse or fail, one class each.

`details` may carry `status` (HTTP), `resource`, `page` (1-based) and `reason` (the server's own short sentence); never
credentials or whole response bodies. Errors that may pass by themselves are also `TransientError`.
"""

from explorer.core.errors import ExplorerError, TransientError


class CommCareError(ExplorerError):
    """Base of everything that goes wrong between us and a CommCare server."""

    code = "commcare_error"
    # Whether asking once more, or for less, would bring the same. Told of each error where it is met: `refusals`, `wire`.
    is_final = False


class CredentialsInvalid(CommCareError):
    """The server does not accept the key, or the token could not be renewed."""

    code = "commcare_credentials_invalid"


class DomainUnknown(CommCareError):
    """The project space does not exist on this server, or the user is not a member of it: the server does not tell which."""

    code = "commcare_domain_unknown"


class NoSubscription(CommCareError):
    """The project space's plan does not include API access."""

    code = "commcare_no_subscription"


class CutOff(CommCareError):
    """HQ has blocked the project space's API access after too many requests; only its support lifts that."""

    code = "commcare_cut_off"


class PermissionMissing(CommCareError):
    """The user's role or the plan does not allow this resource."""

    code = "commcare_permission_missing"


class RequestRefused(CommCareError):
    """The server calls the request itself wrong (400, 405): its version and this client do not agree on the API."""

    code = "commcare_request_refused"


class ResourceUnknown(CommCareError):
    """The server has no such resource (404): it is older than the API that the pipeline names."""

    code = "commcare_resource_unknown"


class NoSuchRecord(ResourceUnknown):
    """A single record was asked for, and the API says in its own way that there is none."""

    code = "commcare_no_such_record"


class Throttled(CommCareError, TransientError):
    """The project space's request allowance is used up for longer than a run waits."""

    code = "commcare_throttled"

    @property
    def retry_after_s(self) -> float | None:
        """Seconds after which the server may answer again, as far as it said."""
        seconds = self.details.get("retry_after_s")
        return float(seconds) if seconds is not None else None


class Unreachable(CommCareError, TransientError):
    """No answer: name resolution, connection, TLS or time limit."""

    code = "commcare_unreachable"


class NotCommCare(CommCareError):
    """Something answers at that address, but not a CommCare server."""

    code = "commcare_not_commcare"


class ResponseMalformed(CommCareError):
    """An answer that is not of the agreed shape: names the resource and the page."""

    code = "commcare_response_malformed"


class ServerError(CommCareError, TransientError):
    """The server failed (5xx) on every try."""

    code = "commcare_server_error"
