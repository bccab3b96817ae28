"""Errors that only CommCare servers have; the others are in `explorer.http.errors`."""

from explorer.http.errors import NotAllowed, TenantUnknown


class DomainUnknown(TenantUnknown):
    """The project space does not exist on this server, or the user is no member of it: the server does not distinguish the
    two."""

    kind = "domain_unknown"


class NoSubscription(NotAllowed):
    """The project space's plan does not include API access."""

    kind = "no_subscription"
