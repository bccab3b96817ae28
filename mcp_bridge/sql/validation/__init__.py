"""May this statement run as the tenant's reader? Turns a text into a `ValidatedQuery`, or raises `QueryRejected`.

1. `validator` chooses the parser; `rules.check_text` refuses texts that no parser should get.
2. `libpg` goes through PostgreSQL's own tree and checks every node and name with `rules`, against `allowlist`.
3. `queries`, with `from_clause` and `expressions`, resolves each dotted name (`names`) and adds up the work of one row
   (`costs`, `budget`).

`tree` reads the parser's JSON; `hints` has the advice in refusals. `fallback` replaces 2 and 3 when libpg_query is not
installed.
"""

from mcp_bridge.sql.validation.validator import PARSER, ValidatedQuery, validate

__all__ = ["PARSER", "ValidatedQuery", "validate"]
