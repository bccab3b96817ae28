"""Which ways a CommCare server can refuse or fail, one class each.

`CommCareError.details` may carry `status` (HTTP), `resource` and `page` (1-based); never credentials or response bodies beyond the
server's own short reason.
"""

from explorer_dagster.errors import ExplorerError


class CommCareError(ExplorerError):
    """Base of everything that goes wrong between us and a CommCare server."""

    code = "commcare_error"


class CredentialsInvalid(CommCareError):
    """The server does not accept the key, or the token could not be refreshed."""

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


class Throttled(CommCareError):
    """The project space's request allowance is used up for longer than a run waits."""

    code = "commcare_throttled"


class Unreachable(CommCareError):
    """No answer: name resolution, connection, TLS or time limit."""

    code = "commcare_unreachable"


class NotCommCare(CommCareError):
    """Something answers at that address, but not a CommCare server."""

    code = "commcare_not_commcare"


class ResponseMalformed(CommCareError):
    """An answer that is not of the agreed shape: names the resource and the page."""

    code = "commcare_response_malformed"


class ServerError(CommCareError):
    """The server failed (5xx) on every try."""

    code = "commcare_server_error"
