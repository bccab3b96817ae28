"""Which tables of a statement does no condition connect? Then each row of one is joined with each row of the other.

Read from the caller's text, because a plan does not show it: the planner replaces conditions by others that follow from them.
It errs on the side of silence: where it is not clear which table a name is of, the condition counts for all that it may be of.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

try:
    import pgparse
except ImportError:  # no wheel for this platform
    pgparse = None

from mcp_bridge.sql.validation.tree import Json, literal_number, strings

_AGGREGATES = frozenset(
    "count sum avg min max array_agg string_agg bool_and bool_or every json_agg jsonb_agg json_object_agg".split()  # noqa: SIM905
)
# What stands for all names that are no column of these entries: of a query around this one.
_OUTER = -1
_MAX_PAIRS = 3


@dataclass(frozen=True)
class Entry:
    """An entry of FROM. `label`: by which the statement names it; `table`: the tenant's table, if it is one; `columns`: None
    where they are not known; `is_small`: a function, a list of values or a query of one row, which may be joined with all."""

    label: str
    table: str | None = None
    columns: frozenset[str] | None = None
    is_small: bool = False

    def __str__(self) -> str:
        return f"{self.table} {self.label}" if self.table and self.table != self.label else self.label


@dataclass(frozen=True)
class Unjoined:
    """Two groups of entries of one FROM; within each group conditions connect them, and none connects the groups."""

    left: Sequence[Entry]
    right: Sequence[Entry]


def unjoined(text: str, relations: Mapping[str, Mapping[str, Sequence[str]]]) -> list[Unjoined]:
    """What no condition connects in a statement that the validator has passed with the same `relations`; at most three. Nothing
    on a machine without PostgreSQL's parser."""
    if pgparse is None:
        return []
    columns = {name: frozenset(of) for schema in relations.values() for name, of in schema.items()}
    statement = pgparse.parse(text)
    single = {
        node["ctename"]: _is_single(node["ctequery"].get("SelectStmt", {}))
        for node in _nodes(statement)
        if "ctename" in node
    }
    found: list[Unjoined] = []
    for node in _nodes(statement):
        if len(node.get("fromClause", ())) > 1 or any("JoinExpr" in item for item in node.get("fromClause", ())):
            found += _From(columns, single).gaps(node)
    return found[:_MAX_PAIRS]


@dataclass
class _From:
    """One FROM. `single`: WITH queries, and whether each gives one row. `_groups`: the group of each entry, by number;
    `_joins`: names of joins as a whole, with their entries."""

    columns: Mapping[str, frozenset[str]]
    single: Mapping[str, bool]
    _entries: list[Entry] = field(default_factory=list)
    _groups: dict[int, int] = field(default_factory=lambda: {_OUTER: _OUTER})
    _joins: dict[str, list[int]] = field(default_factory=dict)

    def gaps(self, select: Json) -> list[Unjoined]:
        conditions: list[Json] = []
        for item in select["fromClause"]:
            self._add(item, conditions)
        for condition in (*conditions, select.get("whereClause", {})):
            for part in _conjuncts(condition):
                self._connect(self._meant(part))
        groups: dict[int, list[Entry]] = {}
        for number, entry in enumerate(self._entries):
            groups.setdefault(self._group(number), []).append(entry)
        large = [of for of in groups.values() if not all(entry.is_small for entry in of)]
        return [Unjoined(left, right) for left, right in pairwise(large)]

    def _add(self, item: Json, conditions: list[Json]) -> list[int]:
        """The numbers of the entries that the item adds; `conditions` grows by those of its joins."""
        ((kind, node),) = item.items()
        if kind == "RangeTableSample":
            return self._add(node["relation"], conditions)
        if kind != "JoinExpr":
            return [self._entry(kind, node)]
        left, right = self._add(node["larg"], conditions), self._add(node["rarg"], conditions)
        conditions.append(node.get("quals", {}))
        if node.get("isNatural"):
            self._connect([*left, *right])
        for name in strings(node.get("usingClause")):
            self._connect([number for number in (*left, *right) if self._may_have(number, name)])
        if "alias" in node:
            self._joins[node["alias"]["aliasname"]] = [*left, *right]
        return [*left, *right]

    def _entry(self, kind: str, node: Json) -> int:
        alias = node.get("alias", {})
        name, number = alias.get("aliasname", node.get("relname", "")), len(self._entries)
        self._groups[number] = number
        if kind == "RangeVar":
            is_query = "schemaname" not in node and node["relname"] in self.single
            own = None if is_query or "colnames" in alias else self.columns.get(node["relname"])
            is_small = is_query and self.single[node["relname"]]
            self._entries.append(Entry(name, None if is_query else node["relname"], own, is_small))
            return number
        query = node.get("subquery", {}).get("SelectStmt")
        self._entries.append(Entry(name or "a query", is_small=_is_single(query) if query else True))
        if query is None or node.get("lateral"):
            # It may name the entries before it.
            self._connect([number, *(each for each in self._meant(node) if each != _OUTER)])
        return number

    def _meant(self, part: Json) -> list[int]:
        """The entries that the columns named in this part of the tree are of, or may be of."""
        found: list[int] = []
        for node in _nodes(part):
            if "fields" not in node:
                continue
            names, has_star = strings(node["fields"]), "A_Star" in node["fields"][-1]
            label = names[-1] if has_star and names else names[-2] if len(names) > 1 else None
            found += self._labelled(label) if label else self._with_column(names[0]) if names else []
        return found

    def _labelled(self, label: str) -> list[int]:
        own = [number for number, entry in enumerate(self._entries) if entry.label == label]
        return own or self._joins.get(label) or [_OUTER]

    def _with_column(self, name: str) -> list[int]:
        own = [
            number for number, entry in enumerate(self._entries) if name in (entry.columns or ()) or entry.label == name
        ]
        return own or [number for number, entry in enumerate(self._entries) if entry.columns is None] or [_OUTER]

    def _may_have(self, number: int, name: str) -> bool:
        columns = self._entries[number].columns
        return columns is None or name in columns

    def _connect(self, numbers: Sequence[int]) -> None:
        for number in numbers[1:]:
            self._groups[self._group(number)] = self._group(numbers[0])

    def _group(self, number: int) -> int:
        while self._groups[number] != number:
            number = self._groups[number]
        return number


def _nodes(tree: object) -> Iterator[Json]:
    """All objects of a part of the tree."""
    waiting = [tree]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting += reversed(part.values())
        elif isinstance(part, list):
            waiting += reversed(part)


def _conjuncts(condition: Json) -> Iterable[Json]:
    """The conditions that all have to hold."""
    both = condition.get("BoolExpr", {})
    if both.get("boolop") != "AND_EXPR":
        return [condition]
    return [part for argument in both["args"] for part in _conjuncts(argument)]


def _is_single(select: Json) -> bool:
    """Whether a query gives one row, as far as its text shows."""
    if "larg" in select or "valuesLists" in select:
        return "valuesLists" in select
    if "fromClause" not in select or literal_number(select.get("limitCount", {})) == 1:
        return True
    return "groupClause" not in select and any(_calls(target) & _AGGREGATES for target in select.get("targetList", ()))


def _calls(tree: Json) -> set[str]:
    """The functions that are called over no window."""
    called = (node for node in _nodes(tree) if "funcname" in node and "over" not in node)
    return {name for node in called for name in strings(node["funcname"])[-1:]}
