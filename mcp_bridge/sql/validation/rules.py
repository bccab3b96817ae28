"""Which names may a statement of this tenant contain? The rules for the checks of both parsers, one method per kind of name.

The rules know names and positions, but no parse tree. A refusal has the same text whether a thing is foreign, forbidden or
absent, because the answer must not show which.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple, NoReturn

from explorer.postgres.connections import CASTS_SCHEMA
from mcp_bridge.sql.errors import QueryRejected, place
from mcp_bridge.sql.validation import hints
from mcp_bridge.sql.validation.allowlist import (
    FUNCTIONS,
    OPERATORS,
    RESERVED_NAMES,
    SAFE_CASTS,
    SYSTEM_COLUMNS,
    TEXT_SEARCH_CONFIGURATIONS,
    TYPES,
)
from mcp_bridge.sql.validation.hints import closest

# Checked before any parser: chains of 25,000 terms overflow parsers' stacks, and a megabyte of IN list takes them seconds.
MAX_STATEMENT_BYTES = 16 * 1024
MAX_NODES = 20_000
MAX_PARENTHESES = 200

# Characters that show a reader another statement than the parser reads: direction overrides, isolates, byte-order mark.
_MISLEADING = re.compile("[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c\ufeff]")
_CATALOG_SCHEMA = "pg_catalog"
_OPERATOR_HINTS = {"==": "Equality is written with one sign: =.", "<=>": "Write IS NOT DISTINCT FROM."}
_TOO_COMPLEX = "The statement is too large or nested too deeply."
_SIMPLER = "Split it into smaller statements, or replace long chains by IN lists, arrays or joins."


def check_text(sql: str) -> None:
    """Refuse texts that no parser should get: empty, oversized or unencodable text, NUL, direction overrides."""
    if not sql.strip():
        raise QueryRejected("empty", "The statement is empty.", next_step="Send one SELECT statement.")
    try:
        size_bytes = len(sql.encode())
    except UnicodeEncodeError as error:
        raise QueryRejected(
            "invalid_text",
            "The statement holds half of a surrogate pair, which is no character.",
            next_step="Send valid Unicode text.",
            details=place(sql, error.start),
        ) from None
    if size_bytes > MAX_STATEMENT_BYTES:
        raise QueryRejected(
            "too_long",
            f"The statement has {size_bytes:,} bytes; at most {MAX_STATEMENT_BYTES:,} are read.",
            next_step="Shorten it: join a table or use a range instead of a long list of values.",
            details={"size_bytes": size_bytes, "max_bytes": MAX_STATEMENT_BYTES},
        )
    if _depth(sql) > MAX_PARENTHESES:
        raise QueryRejected("too_complex", _TOO_COMPLEX, next_step=_SIMPLER)
    if (bad := sql.find("\x00")) >= 0 or (bad := next((m.start() for m in _MISLEADING.finditer(sql)), -1)) >= 0:
        raise QueryRejected(
            "invalid_text",
            f"The statement holds the control character U+{ord(sql[bad]):04X}.",
            next_step="Remove the character; write it as an escape (E'\\u....') if the data holds it.",
            details=place(sql, bad),
        )


def _depth(sql: str) -> int:
    """The nesting depth of parentheses. Parentheses in literals count too, so that no parser is needed; real texts have few."""
    return max(accumulate((char in "([") - (char in ")]") for char in sql), default=0)


class Checked(NamedTuple):
    """What a parser's check found: `end`: of the one statement, 0-based character offset; `tells`: by column of the result, in
    order, the columns with personal data that it tells; None where the parser cannot say."""

    end: int
    tells: tuple[frozenset[str], ...] | None


@dataclass
class Rules:
    """The tenant's names, and the relations found in the statement so far. One instance per validation. `personal`: the columns
    with personal data, by table; `personal_read`: those of them (`table.column`) that the statement reads in any place;
    `references`: schema and name of relations in FROM, by their 0-based character offset."""

    text: str
    schemas: frozenset[str]
    relations: Mapping[str, Mapping[str, Sequence[str]]]
    own_types: frozenset[str]
    personal: Mapping[str, frozenset[str]] = field(default_factory=dict)
    tables: set[str] = field(default_factory=set)
    personal_read: set[str] = field(default_factory=set)
    references: dict[int, tuple[str | None, str]] = field(default_factory=dict)
    _nodes: int = 0

    def reject(self, code: str, message: str, *, next_step: str, at: int | None = None, **details: Any) -> NoReturn:
        """Raise `QueryRejected`; `at` is a 0-based character offset into the statement."""
        where = place(self.text, at) if at is not None else {}
        raise QueryRejected(code, message, next_step=next_step, details={**where, **details})

    def count_node(self) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self.too_complex()

    def too_complex(self) -> NoReturn:
        self.reject("too_complex", _TOO_COMPLEX, next_step=_SIMPLER)

    def unsupported(self, what: str, at: int | None = None) -> NoReturn:
        self.reject(
            "unsupported_syntax", f"{what} is not supported here.", next_step="Write the query without it.", at=at
        )

    def too_costly(self) -> NoReturn:
        self.reject(
            "too_costly",
            "One row of the statement could keep the database busy for long without a way to stop it: very large values are "
            "compared, searched or built.",
            next_step="Take parts of the values first (left(x, 1000), LIMIT before string_agg or array_agg), compare rows by "
            "joins instead of arrays, and use small numbers in repeat, lpad, rpad, array_fill and format.",
        )

    def relation_names(self) -> set[str]:
        return {name for names in self.relations.values() for name in names}

    def columns_of(self, schema: str | None, name: str) -> Sequence[str]:
        """The columns of a relation that `relation` has accepted, in their order."""
        places = [schema] if schema is not None else list(self.relations)
        return next((self.relations[place][name] for place in places if name in self.relations.get(place, ())), ())

    def personal_column(self, table: str, column: str) -> frozenset[str]:
        """`table.column` if it has personal data."""
        return frozenset((f"{table}.{column}",)) if column in self.personal.get(table, ()) else frozenset()

    def reads_personal(self, columns: frozenset[str]) -> None:
        """Note that the statement reads these columns (`table.column`) with personal data."""
        self.personal_read |= columns

    def column_names(self) -> frozenset[str]:
        """The columns of the relations that the statement reads."""
        return frozenset(
            column
            for names in self.relations.values()
            for table in self.tables & names.keys()
            for column in names[table]
        )

    def relation(self, schema: str | None, name: str, visible_ctes: Collection[str], at: int | None = None) -> None:
        """Check a name in FROM: a visible CTE, or one of the tenant's relations, which is added to `tables`."""
        if schema is None and name in visible_ctes:
            return
        if schema is not None and schema not in self.schemas:
            self._unknown_relation(f"{schema}.{name}", name, at)
        known: Collection[str] = self.relations.get(schema, ()) if schema is not None else self.relation_names()
        # PostgreSQL looks up an unqualified pg_* name in pg_catalog first, with any search path.
        if name not in known or (schema is None and name.startswith("pg_")):
            self._unknown_relation(name if schema is None else f"{schema}.{name}", name, at)
        self.tables.add(name)
        if at is not None:
            self.references[at] = schema, name

    def _unknown_relation(self, shown: str, name: str, at: int | None) -> NoReturn:
        likely = closest(name, self.relation_names())
        hint = hints.relation(name, likely, self.relation_names())
        what = self._typed(shown, "There is no table or view {}.", "The table or view does not exist.")
        self.reject("unknown_relation", what, next_step=hint, at=at, did_you_mean=likely)

    def _typed(self, name: str, with_name: str, without: str) -> str:
        """A sentence with the name, if the caller wrote it like this. A folded or unescaped name could be text that the caller
        did not write."""
        return with_name.format(f'"{name}"') if name in self.text else without

    def cte(self, name: str, at: int | None = None) -> None:
        """Check the name of a WITH query."""
        if name.startswith("pg_") or name in self.schemas:
            self.reject(
                "reserved_name", "A WITH query cannot have this name.", next_step="Give it another name.", at=at
            )

    def function(self, parts: list[str], at: int | None = None) -> None:
        names = _without_catalog(parts)
        if len(names) == 1 and names[0] in FUNCTIONS and (names == parts or names[0] not in SAFE_CASTS):
            return
        if len(parts) == 2 and parts[0] == CASTS_SCHEMA and parts[1] in SAFE_CASTS:
            return
        shown = ".".join(parts)
        # A name with a schema is not a misspelling of a built-in name.
        likely = closest(names[0], FUNCTIONS) if len(names) == 1 else []
        self.reject(
            "function_not_allowed",
            self._typed(shown, "The function {} cannot be used", "The function cannot be used")
            + ": it is unknown, or not one that only computes from its arguments.",
            next_step=hints.function(names[-1] if len(names) == 1 else "", likely),
            at=at,
            did_you_mean=likely,
        )

    def type_(self, parts: list[str], at: int | None = None) -> None:
        names = _without_catalog(parts)
        if len(names) == 1 and (names[0] in TYPES or (names == parts and names[0] in self.own_types)):
            return
        if len(parts) == 2 and parts[0] in self.schemas and parts[1] in self.own_types:
            return
        self.reject(
            "type_not_allowed",
            self._typed(".".join(parts), "The type {} cannot be used", "The type cannot be used")
            + ": it is unknown or not one for data.",
            next_step=hints.type_(names[-1]) or "Cast to text, a number, a date or time, boolean, uuid, json or jsonb.",
            at=at,
        )

    def operator(self, parts: list[str], at: int | None = None) -> None:
        names = _without_catalog(parts)
        if len(names) != 1:
            self.reject(
                "operator_not_allowed",
                "Operators of other schemas cannot be used.",
                next_step="Write the plain operator.",
                at=at,
            )
        if names[0] not in OPERATORS:
            self.reject(
                "operator_not_allowed",
                self._typed(names[0], "The operator {} cannot be used.", "This operator cannot be used."),
                next_step=_OPERATOR_HINTS.get(
                    names[0], "Use the operators for numbers, text, dates, arrays, ranges and JSON."
                ),
                at=at,
            )

    def text_search(self, configuration: str | None, at: int | None = None) -> None:
        """Check the configuration of a text search function: only PostgreSQL's own, and only as a literal."""
        if configuration is None or configuration.removeprefix(f"{_CATALOG_SCHEMA}.") not in TEXT_SEARCH_CONFIGURATIONS:
            self.reject(
                "text_search_configuration",
                "The text search configuration must be one of PostgreSQL's own, written as a string.",
                next_step="Write 'simple' or a language such as 'english' as the first argument.",
                at=at,
            )

    def collation(self, parts: list[str], at: int | None = None) -> None:
        if len(_without_catalog(parts)) != 1:
            self.reject(
                "collation_not_allowed",
                "Collations of other schemas cannot be used.",
                next_step='Use COLLATE "C" or leave the clause out.',
                at=at,
            )

    def column(self, parts: list[str], at: int | None = None) -> None:
        """Check a dotted reference as written, without a star: `column`, `table.column`, `schema.table.column`."""
        for name in parts:
            if name in SYSTEM_COLUMNS:
                self.reject(
                    "system_column",
                    f"The system column {name} cannot be read.",
                    next_step="Use the table's own key columns.",
                    at=at,
                )

    def behind_a_dot(self, name: str, at: int | None = None) -> None:
        """Check a name after a dot that was resolved to a column. If that were wrong, PostgreSQL could read a reserved name as a
        call that prints objects' names, so reserved names pass only if a table has such a column."""
        if RESERVED_NAMES.fullmatch(name) and name not in self.column_names():
            self.unknown_attribute(name, (), at)

    def table_reference(self, schema: str, shown: str, at: int | None = None) -> None:
        """Check the schema of a three-part column reference."""
        if schema not in self.schemas:
            self._unknown_relation(shown, shown.rpartition(".")[2], at)

    def unknown_alias(self, name: str, in_sight: list[str], at: int | None = None) -> NoReturn:
        """Refuse a name before a dot that is no table or alias of the statement."""
        likely = closest(name, in_sight)
        hint = f"Did you mean {', '.join(likely)}?" if likely else ""
        if name in self.column_names():
            hint = f"{name} is a column: for a part of a JSON value write {name} ->> 'key'."
        names = f"In FROM there are: {', '.join(in_sight[:10])}." if in_sight else "The statement has no FROM there."
        self.reject(
            "unknown_relation",
            self._typed(name, "There is no table or alias {} in FROM.", "What stands before the dot is not in FROM."),
            next_step=hint or names,
            at=at,
            did_you_mean=likely,
        )

    def unknown_attribute(self, name: str, columns: Collection[str], at: int | None = None) -> NoReturn:
        """Refuse a name after a dot that is no column: PostgreSQL would read it as a function or a cast of the part before."""
        likely = closest(name, columns)
        shown = ", ".join(list(dict.fromkeys(columns))[:20])
        self.reject(
            "unknown_column",
            self._typed(
                name, "{} is no column of what stands before the dot", "What stands behind the dot is no column"
            )
            + ": only columns, the statement's own aliases and fields f1, f2, ... of rows can stand there.",
            next_step=f"Did you mean {', '.join(likely)}?"
            if likely
            else f"The columns there are: {shown}."
            if shown
            else "Write functions and casts as f(x) and x::type, not behind a dot.",
            at=at,
            did_you_mean=likely,
        )


def _without_catalog(parts: list[str]) -> list[str]:
    return parts[1:] if len(parts) == 2 and parts[0] == _CATALOG_SCHEMA else parts
