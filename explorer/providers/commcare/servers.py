"""Which CommCare servers have names of their own, and what counts as the name of a project space."""

import re

from explorer.providers.base import ExternalIdInvalid
from explorer.providers.commcare.settings import SERVICE
from explorer.providers.servers import Servers, shown

# The installations that Dimagi runs; everything else is named by its URL. commcarehq.org only redirects.
SERVERS = Servers(
    tenant_noun=SERVICE.unit,
    aliases={
        "www": "https://www.commcarehq.org",
        "india": "https://india.commcarehq.org",
        "eu": "https://eu.commcarehq.org",
    },
    moved={"commcarehq.org": "www.commcarehq.org"},
)
_MAX_DOMAIN_LENGTH = 256
# CommCare HQ routes names of this form; new ones are stricter, old ones are not.
_DOMAIN = re.compile(r"[\w.:-]+", re.ASCII)


class DomainInvalid(ExternalIdInvalid):
    """Not the name of a CommCare project space."""

    code = "domain_invalid"


def check_domain(domain: str) -> str:
    """The name of a project space without blanks around it; spelling and case are kept, the server decides what they mean.

    Raises:
        DomainInvalid
    """
    name = domain.strip()
    if not _DOMAIN.fullmatch(name) or len(name) > _MAX_DOMAIN_LENGTH or not name.strip("._:-"):
        raise DomainInvalid(
            f"{shown(domain)} is not the name of a CommCare project space.",
            next_step="Copy the name from the address of the project: the part after /a/ (letters, digits and . _ : -).",
        )
    return name


def domain_key(domain: str) -> str:
    """Two names with the same key are one project space: HQ lower-cases names and reads `_` as `-`."""
    return domain.lower().replace("_", "-")
