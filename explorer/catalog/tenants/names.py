"""What is a valid tenant key? Providers judge servers and external ids."""

import re

from explorer.catalog.errors import TenantKeyInvalid

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


def check_key(key: str) -> str:
    """The key, if it can be a partition key, a path segment and a command-line word.

    Raises:
        TenantKeyInvalid
    """
    # Dagster reserves "..." for ranges of partitions.
    if not _KEY.fullmatch(key) or "..." in key:
        raise TenantKeyInvalid(
            f"{_shown(key)} cannot be a tenant key.",
            next_step="Use up to 128 letters, digits and . _ : -, beginning with a letter or digit, for instance www:my-project.",
        )
    return key


def _shown(text: str) -> str:
    """The refused text: short, printable, and without a possible password."""
    return repr(re.sub(r"[^/]*@", "***@", text)[:80])
