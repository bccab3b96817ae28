"""Tiny's servers, and the check of a garden's name."""

import re

from explorer.providers.tiny.settings import SERVICE

from explorer.providers.base import ExternalIdInvalid
from explorer.providers.servers import Servers

SERVERS = Servers(tenant_noun=SERVICE.unit)


def check_garden(text: str) -> str:
    """The name of a garden without blanks around it. Raises: ExternalIdInvalid."""
    if not re.fullmatch(r"[a-z-]{1,40}", text.strip()):
        raise ExternalIdInvalid("That is no garden.", next_step="Small letters and - name a garden.")
    return text.strip()
