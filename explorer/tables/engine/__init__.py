"""How do a tenant's tables come to be, and stay up to date? Three verbs over `TableSpec` values.

*Build* makes a table beside the old one and swaps them; *apply* takes out the rows of changed records and puts them in again;
*check* counts what is wrong with keys, references and values. Each table has a record of what it was built from, by which run
(`contract.bookkeeping.builds`), written in the transaction that changes it. No dbt here: dbt reads these tables as sources.
"""

from explorer.tables.engine.causes import summary
from explorer.tables.engine.checking import DESCRIBED, checks_of
from explorer.tables.engine.currency import is_current
from explorer.tables.engine.results import TableResult, Updated, Verb, check_tables, described
from explorer.tables.engine.retirement import mark, unmark
from explorer.tables.engine.sessions import SESSION
from explorer.tables.engine.update import update

__all__ = [
    "DESCRIBED",
    "SESSION",
    "TableResult",
    "Updated",
    "Verb",
    "check_tables",
    "checks_of",
    "described",
    "is_current",
    "mark",
    "summary",
    "unmark",
    "update",
]
