"""Which errors do only CommCare servers have? All others are of `explorer.http.errors`."""

from explorer.http.errors import NotAllowed, TenantUnknown


class DomainUnknown(TenantUnknown):
    """The project space does not exist on this server, or the user is not a member of it: the server does not tell which."""

    kind = "domain_unknown"


class NoSubscription(NotAllowed):
    """The project space's plan does not include API access."""

    kind = "no_subscription"
