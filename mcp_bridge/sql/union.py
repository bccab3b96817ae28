"""Writes the tables of several tenants as WITH queries around a statement: each the union of what the tenants have by that name.

The statement's own text is not changed; its own WITH queries hide ours of the same name, as PostgreSQL's scopes have it. A WITH
query that is NOT MATERIALIZED is planned as if it stood in FROM, so that conditions reach the tables.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mcp_bridge.sql.validation import ValidatedQuery

TENANT = "tenant"
# From the narrowest on: a wider one holds every value of a narrower one.
_NUMBERS = ("smallint", "integer", "bigint", "numeric")
_TEXTS = frozenset({"text", "character varying", "character"})


@dataclass(frozen=True, slots=True)
class LiveColumn:
    """A column that the statement's login may read. `type`: as PostgreSQL writes it; `is_own`: a type of the tenant's."""

    name: str
    type: str
    is_own: bool = False


@dataclass(frozen=True, slots=True)
class Arm:
    """A tenant's table with the columns that may be read of it now."""

    tenant: str
    schema: str
    table: str
    columns: Mapping[str, LiveColumn]


@dataclass(frozen=True, slots=True)
class UnionColumn:
    """A column of a union. `source`: its name in the tables; `types`: in the tables that have it, by tenant."""

    name: str
    source: str
    type: str
    types: Mapping[str, str]

    @property
    def differs(self) -> bool:
        """Whether values had to become text, because the tables have types that do not go together."""
        return self.type == "text" and any(_base(type_) not in _TEXTS for type_ in self.types.values())


@dataclass(frozen=True, slots=True)
class Union:
    """A table of the workspace: tables of equal name, one under the other, with their tenant. It has at least one arm."""

    name: str
    columns: tuple[UnionColumn, ...]
    arms: tuple[Arm, ...]

    @property
    def sql(self) -> str:
        """The WITH query."""
        arms = "\nUNION ALL\n".join(self._select(arm) for arm in self.arms)
        return f"{_quoted(self.name)} AS NOT MATERIALIZED (\n{arms}\n)"

    def _select(self, arm: Arm) -> str:
        values = [f"{_literal(arm.tenant)}::text AS {TENANT}"]
        for column in self.columns:
            has = arm.columns.get(column.source)
            value = f"t.{_quoted(column.source)}" if has else "NULL"
            cast = "" if has is not None and has.type == column.type else f"::{column.type}"
            values.append(f"{value}{cast} AS {_quoted(column.name)}")
        return f"SELECT {', '.join(values)} FROM {_quoted(arm.schema)}.{_quoted(arm.table)} AS t"  # noqa: S608 (names, quoted)


def names_of(columns: Iterable[Sequence[str]]) -> dict[str, str]:
    """The columns of a union beside the tenant, in order: those of the first table, then what others have more. By their name in
    the union, with that in the tables, which differs for a column that is called as ours."""
    sources = list(dict.fromkeys(name for table in columns for name in table))
    found = {}
    for source in sources:
        name = source
        while name == TENANT or (name != source and name in sources):
            name = f"own_{name}"
        found[name] = source
    return found


def union(name: str, columns: Mapping[str, str], arms: Sequence[Arm]) -> Union:
    """The union of `arms` with these columns, as `names_of` gives them. A column has the type that all tables give it, or one
    that holds the values of all; where there is none, text. A table without the column gives null."""
    found = []
    for column, source in columns.items():
        has = {arm.tenant: arm.columns[source] for arm in arms if source in arm.columns}
        types = {tenant: live.type for tenant, live in has.items()}
        found.append(UnionColumn(column, source, _common(has.values()), types))
    return Union(name, tuple(found), tuple(arms))


def around(query: ValidatedQuery, unions: Collection[Union]) -> ValidatedQuery:
    """The statement with the unions that it reads."""
    if not unions:
        return query
    before = f"WITH {', '.join(each.sql for each in unions)}\nSELECT * FROM (\n"
    return replace(query, before=before, after="\n) AS q")


def _common(columns: Collection[LiveColumn]) -> str:
    types = list(dict.fromkeys(column.type for column in columns))
    if not types or any(column.is_own for column in columns):
        return "text"
    if len(types) == 1:
        return types[0]
    bases = {_base(type_) for type_ in types}
    if bases <= set(_NUMBERS):
        return max(bases, key=_NUMBERS.index)
    # A cast to `character` or `bit` without a length cuts to one.
    is_safe = not bases & (_TEXTS | {"bit"}) and not any("[" in type_ for type_ in types)
    return bases.pop() if len(bases) == 1 and is_safe else "text"


def _base(type_: str) -> str:
    """The type without its length or precision: `numeric(10,2)` is `numeric`, `timestamp(3) with time zone` has none."""
    before, bracket, rest = type_.partition("(")
    return before + rest.partition(")")[2] if bracket else type_


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    """A tenant's key as a literal. Keys have letters, digits and `. _ : -` only; quotes are doubled all the same."""
    return "'" + text.replace("'", "''") + "'"
