"""May this statement run as the tenant's reader? From a text to a `ValidatedQuery`, or `QueryRejected`.

1. `validator` picks the parser; `rules.check_text` refuses what no parser should see.
2. `libpg` walks PostgreSQL's own tree and asks `rules` about every node and name, against `allowlist`.
3. `queries`, with `from_clause` and `expressions`, finds out what each dotted name means (`names`) and adds up the work of one
   row (`costs`, `budget`).

`tree` reads the parser's JSON, `hints` advises whoever is refused. `fallback` takes the place of 2 and 3 where libpg_query is
not installed.
"""

from mcp_bridge.sql.validation.validator import PARSER, ValidatedQuery, validate

__all__ = ["PARSER", "ValidatedQuery", "validate"]
