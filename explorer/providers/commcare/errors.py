"""Errors that only CommCare servers have; the others are in `explorer.http.errors`."""

from explorer.http.errors import NotAllowed, TenantUnknown


class DomainUnknown(TenantUnknown):
    """The project space does not exist on this server, or the user is no member of it: the server does not distinguish the
    two."""

    kind = "domain_unknown"


class NoSubscription(NotAllowed):
    """The project space's plan does not include API access."""

    kind = "no_subscription"


class PartOfDomain(NotAllowed):
    """The user's role sees the data of some locations only, so tables made with this credential would silently be a part."""

    kind = "part_of_domain"
