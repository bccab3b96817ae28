"""The meaning of names inside a statement: results of expressions, entries of FROM, and the scope of one query.

`queries` and `from_clause` make these records from the tree; `expressions` looks names up in them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from mcp_bridge.sql.validation import costs
from mcp_bridge.sql.validation.costs import CELL, SCALAR
from mcp_bridge.sql.validation.rules import Rules


@dataclass(frozen=True, slots=True)
class Value:
    """An expression's result. `size`: its maximum in bytes; `fields`: its fields if it is a row; `elements`: the fields of its
    elements if it is an array of rows.

    `own`: the fields of its type; only rows of relations have them. PostgreSQL knows the fields of other rows by their origin,
    and the renamed fields of a relation's row by FROM. Both are lost as soon as an expression passes the row on (source:
    ParseComplexProjection in PostgreSQL's parse_func.c, expandRecordVariable in parse_target.c).
    `is_list`: surely an array, for which `unnest` gives values; for a tsvector it gives rows. `tells`: the columns with personal
    data (`table.column`) that the value is made of.
    """

    size: int = CELL
    fields: "Columns | None" = None
    elements: "Columns | None" = None
    own: "Columns | None" = None
    is_list: bool = False
    tells: frozenset[str] = frozenset()

    def handed_on(self) -> "Value":
        """The value after CASE, coalesce, a function or a scalar subquery, or as a field of another row."""
        return replace(self, fields=self.own)

    def as_column(self) -> "Value":
        """The value as a column of a query. PostgreSQL looks through the query for field names of rows whose type has none."""
        return self if self.own is None else self.handed_on()


Columns = tuple[tuple[str, Value], ...]
SMALL = Value(SCALAR)


class FromItem:
    """One name in FROM. `schema`: the schema of a relation without an alias; `own`: the columns of the type of its rows;
    `is_scalar`: a function with plain values, so its name means a value and not a row."""

    def __init__(
        self,
        name: str,
        columns: Columns,
        schema: str | None = None,
        *,
        own: Columns | None = None,
        is_scalar: bool = False,
    ) -> None:
        self.name = name
        self.columns = columns
        self.schema = schema
        self._own = own
        self._is_scalar = is_scalar
        self._by_name = by_name(columns)

    def column(self, name: str) -> Value | None:
        return self._by_name.get(name)

    def row(self) -> Value:
        size = costs.cap(sum(value.size for _, value in self.columns))
        tells = told_by(value for _, value in self.columns)
        return Value(size, tells=tells) if self._is_scalar else Value(size, self.columns, own=self._own, tells=tells)


def by_name(columns: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    """The columns by name. Columns of the same name are merged."""
    found: dict[str, Value] = {}
    for name, value in columns:
        found[name] = larger(found[name], value) if name in found else value
    return found


@dataclass(slots=True)
class Level:
    """The names that the FROM of one SELECT adds to the scope; `star`: the columns of its `*`, in order."""

    items: list[FromItem] = field(default_factory=list)
    star: list[tuple[str, Value]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Scope:
    """The names that are visible at one place: levels from the innermost outwards, and the visible WITH queries."""

    levels: tuple[Level, ...] = ()
    ctes: Mapping[str, Columns] = field(default_factory=dict)

    def within(self, level: Level) -> "Scope":
        """The scope of a query inside this one."""
        return Scope((level, *self.levels), self.ctes)


def larger(one: Value, other: Value) -> Value:
    """A value that may be either: the larger size, and the properties that both share."""
    return Value(
        max(one.size, other.size),
        one.fields if _same(one.fields, other.fields) else None,
        one.elements if _same(one.elements, other.elements) else None,
        one.own if _same(one.own, other.own) else None,
        one.is_list and other.is_list,
        one.tells | other.tells,
    )


def told_by(values: Iterable[Value]) -> frozenset[str]:
    """The columns with personal data that any of the values tells."""
    return frozenset[str]().union(*(value.tells for value in values))


def same_row(values: list[Value]) -> Value:
    """A value that may be any of the values."""
    result = values[0] if values else SMALL
    for value in values[1:]:
        result = larger(result, value)
    return result


def _same(one: Columns | None, other: Columns | None) -> bool:
    return [name for name, _ in one or ()] == [name for name, _ in other or ()]


def renamed(columns: Columns, names: list[str]) -> Columns:
    """The columns with the names of a column list, which may be shorter or longer."""
    return tuple(
        (names[index] if index < len(names) else name, value) for index, (name, value) in enumerate(columns)
    ) + tuple((name, Value()) for name in names[len(columns) :])


class NameLookup:
    """Resolves a written name in a scope as PostgreSQL does. The rules refuse names that are not found."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def from_item(self, names: list[str], scope: Scope, at: int | None) -> FromItem:
        """The entry of FROM for `x` or `schema.x`, in the innermost query that has one of this name."""
        for level in scope.levels:
            found = [
                item for item in level.items if item.name == names[-1] and (len(names) == 1 or item.schema is not None)
            ]
            if found:
                shared = [column for column in found[0].columns if all(item.column(column[0]) for item in found)]
                return found[0] if len(found) == 1 else FromItem(found[0].name, tuple(shared))
        in_sight = sorted({item.name for level in scope.levels for item in level.items if item.name})
        self._rules.unknown_alias(".".join(names), in_sight, at)

    def column(self, names: list[str], scope: Scope, at: int | None) -> Value:
        """`column`, `x.column` or `schema.x.column`."""
        if len(names) == 1:
            return _bare(names[0], scope)
        item = self.from_item(names[:-1], scope, at)
        found = item.column(names[-1])
        if found is None:
            self._rules.unknown_attribute(names[-1], [name for name, _ in item.columns], at)
        self._rules.behind_a_dot(names[-1], at)
        return found

    def field_of(self, value: Value, name: str, at: int | None) -> Value:
        """`(row).name`."""
        fields = value.fields or ()
        found = [part for field_name, part in fields if field_name == name]
        if not found:
            self._rules.unknown_attribute(name, [field_name for field_name, _ in fields], at)
        self._rules.behind_a_dot(name, at)
        return same_row(found).handed_on()


def _bare(name: str, scope: Scope) -> Value:
    for level in scope.levels:
        found = [value for item in level.items if (value := item.column(name)) is not None]
        if found:
            return same_row(found)
    for level in scope.levels:
        rows = [item.row() for item in level.items if item.name == name]
        if rows:
            return rows[0]
    return Value()  # PostgreSQL refuses this itself
