"""May this statement run as the tenant's reader? Only one SELECT over the tenant's own relations, with allowed functions
and types.

The parser is PostgreSQL's own (libpg_query, through pgparse). On platforms without its wheel it is sqlglot with stricter
rules. The choice is made at import (`PARSER`). The caller's own text is executed, never a text made from a tree.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from mcp_bridge.sql.validation.rules import Rules, check_text
from mcp_bridge.sql.validation.tree import end_of_name

if importlib.util.find_spec("pgparse") is not None:
    from mcp_bridge.sql.validation.libpg import check_statement

    PARSER = "libpg_query"
else:
    from mcp_bridge.sql.validation.fallback import check_statement

    PARSER = "sqlglot"


@dataclass(frozen=True, slots=True)
class ValidatedQuery:
    """A statement that may run, and the tenant's relations that it reads.

    `text` is the caller's text up to the end of its one statement (without a closing semicolon and the text after it), so
    a character position in it is a position in the caller's text. `tables` are names without schema and without CTEs;
    `columns` are the columns of these tables. An error may repeat these names.

    `personal_read` are the columns with personal data (`table.column`) that it reads in any place; `tells` are, by column of the
    result, those that the column is made of, or None where the parser cannot say: then any column may tell any of them.
    `masked` are those in whose place a mask stands; the text is then not the caller's. `references`: where the text names
    which of `tables`, as begin, end and name, in its order; None where that cannot be said. `before` and `after` are texts of
    ours around it, which the server is sent too.
    """

    text: str
    tables: frozenset[str]
    columns: frozenset[str] = frozenset()
    personal_read: frozenset[str] = frozenset()
    tells: tuple[frozenset[str], ...] | None = ()
    masked: frozenset[str] = frozenset()
    references: tuple[tuple[int, int, str], ...] | None = None
    before: str = ""
    after: str = ""

    @property
    def whole(self) -> str:
        """What the server is sent."""
        return f"{self.before}{self.text}{self.after}"


def validate(
    sql: str,
    *,
    schemas: frozenset[str],
    relations: Mapping[str, Mapping[str, Sequence[str]]],
    own_types: frozenset[str] = frozenset(),
    personal: Mapping[str, frozenset[str]] = MappingProxyType({}),
) -> ValidatedQuery:
    """Check `sql` against the tenant's names and the allow-lists.

    `relations` are the readable tables and views by schema, in the order in which unqualified names are looked up, each with
    its columns in their order. `own_types` are the tenant's own types (enums), names without schema. `personal` are the columns
    with personal data, by table. Raises only `QueryRejected`, for any text.
    """
    check_text(sql)
    rules = Rules(sql, schemas, relations, own_types, personal)
    checked = check_statement(sql, rules)
    read = frozenset(rules.personal_read)
    return ValidatedQuery(
        sql[: checked.end],
        frozenset(rules.tables),
        rules.column_names(),
        read,
        checked.tells,
        references=_references(sql, rules),
    )


def _references(sql: str, rules: Rules) -> tuple[tuple[int, int, str], ...] | None:
    found = []
    for at, (schema, name) in sorted(rules.references.items()):
        end = end_of_name(sql, at, [name] if schema is None else [schema, name])
        if end is None:
            return None
        found.append((at, end, name))
    return tuple(found) if {name for _, _, name in found} == rules.tables else None
