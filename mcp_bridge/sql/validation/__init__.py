"""May this statement run as the tenant's reader? From a text to a `ValidatedQuery`, or `QueryRejected`.

`validator` picks the parser. `libpg` walks PostgreSQL's own tree and asks `rules` about every name; `scopes` finds out what
each dotted name means and adds up the work of one row by `costs`. `fallback` is the way without libpg_query. `allowlist` holds
the names that may be used, `hints` the advice to whoever is refused.
"""

from mcp_bridge.sql.validation.validator import ValidatedQuery, validate

__all__ = ["ValidatedQuery", "validate"]
