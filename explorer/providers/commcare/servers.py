"""Which CommCare servers have short names, and what is a valid name of a project space?"""

import re

from explorer.providers.base import ExternalIdInvalid
from explorer.providers.commcare.settings import SERVICE
from explorer.providers.servers import Servers, shown

# Dimagi's installations; all others are named by their URL. commcarehq.org only redirects.
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
# HQ's routes accept names of this form. New names follow stricter rules, old ones do not.
_DOMAIN = re.compile(r"[\w.:-]+", re.ASCII)


class DomainInvalid(ExternalIdInvalid):
    """The text is no name of a CommCare project space."""

    code = "domain_invalid"


def check_domain(domain: str) -> str:
    """The name of a project space without surrounding blanks. Spelling and case stay, since the server interprets them.

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
    """A key that is equal for two names of one project space: HQ lower-cases names and reads `_` as `-`."""
    return domain.lower().replace("_", "-")
