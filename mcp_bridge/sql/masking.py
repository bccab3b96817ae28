"""Puts a mask in the place of columns with personal data, where these stand by themselves in the outermost select list.

The mask is a constant, so nothing of the column is read, not even whether there is a value. Only these columns change in the
caller's text. What cannot be masked stays, and the validator then refuses it as a read of the column.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

try:
    import pgparse
except ImportError:  # no wheel for this platform
    pgparse = None

from mcp_bridge.sql.validation.tree import Json, end_of_name, literal_number, strings

MASK = "***"


@dataclass(frozen=True)
class Masked:
    """`text`: of the statement with its masks; `columns`: those behind them, as `table.column`."""

    text: str
    columns: frozenset[str]


@dataclass(frozen=True)
class _Item:
    """One entry of FROM. `columns`: of a relation; None where it is something else."""

    name: str
    table: str = ""
    columns: Sequence[str] | None = None


def masked(
    text: str, relations: Mapping[str, Mapping[str, Sequence[str]]], personal: Mapping[str, frozenset[str]]
) -> Masked | None:
    """The statement with masks; None where none can be put. `text`: a statement that the validator has passed with the same
    `relations`; `personal`: the columns with personal data, by table."""
    if pgparse is None:
        return None
    select = pgparse.parse(text)[0]["stmt"]["SelectStmt"]
    if "larg" in select or "valuesLists" in select or "distinctClause" in select:
        return None
    ctes = {item["CommonTableExpr"]["ctename"] for item in select.get("withClause", {}).get("ctes", ())}
    items, stars_expand = list[_Item](), True
    for node in select.get("fromClause", ()):
        stars_expand &= _add(node, relations, ctes, items)
    sorted_by = _sorted_by(select)
    utf8, done, parts, found = text.encode(), 0, list[str](), set[str]()
    for place, target in enumerate((entry["ResTarget"] for entry in select.get("targetList", ())), start=1):
        reference = target["val"].get("ColumnRef")
        if reference is None:
            continue
        at = len(utf8[: reference["location"]].decode(errors="replace")) if reference.get("location", -1) >= 0 else -1
        end = _end_of(text, at, reference)
        made = _replacement(reference, items, personal, "name" in target, stars_expand) if end is not None else None
        if end is None or made is None:
            continue
        replacement, columns = made
        is_star = "A_Star" in reference["fields"][-1]
        names = {column.rpartition(".")[2] for column in columns} if is_star else {_name_of(target)}
        # Rows are not sorted or grouped by what is hidden. Behind a star, a number may mean any column.
        if sorted_by & names or (sorted_by & {place} if not is_star else any(isinstance(s, int) for s in sorted_by)):
            continue
        parts += [text[done:at], replacement]
        done = end
        found |= columns
    return Masked("".join([*parts, text[done:]]), frozenset(found)) if found else None


def _sorted_by(select: Json) -> set[str | int]:
    """The columns of the result, by name or number, that GROUP BY and ORDER BY name."""
    found: set[str | int] = set()
    for clause in (*select.get("groupClause", ()), *select.get("sortClause", ())):
        node = clause["SortBy"]["node"] if "SortBy" in clause else clause
        if "A_Const" in node:
            found.add(literal_number(node) or 0)
        elif "ColumnRef" in node:
            found.update(strings(node["ColumnRef"]["fields"])[-1:])
        elif "GroupingSet" in node:
            inner = {"groupClause": node["GroupingSet"].get("content", ())}
            found |= _sorted_by(inner)
    return found


def _name_of(target: Json) -> str:
    return str(target.get("name") or strings(target["val"]["ColumnRef"]["fields"])[-1])


def _add(node: Json, relations: Mapping[str, Mapping[str, Sequence[str]]], ctes: set[str], items: list[_Item]) -> bool:
    """Add an entry of FROM; returns whether `*` is the columns of all entries one after the other."""
    ((kind, item),) = node.items()
    if kind == "JoinExpr" and "alias" not in item:
        plain = not item.get("isNatural") and not item.get("usingClause")
        left = _add(item["larg"], relations, ctes, items)
        return _add(item["rarg"], relations, ctes, items) and left and plain
    alias = item.get("alias", {})
    columns = _columns(item, relations, ctes) if kind == "RangeVar" and "colnames" not in alias else None
    items.append(_Item(alias.get("aliasname") or item.get("relname", ""), item.get("relname", ""), columns))
    return True


def _columns(item: Json, relations: Mapping[str, Mapping[str, Sequence[str]]], ctes: set[str]) -> Sequence[str] | None:
    schema, name = item.get("schemaname"), item["relname"]
    if schema is None and name in ctes:
        return None
    places = relations.values() if schema is None else (relations.get(schema, {}),)
    return next((place[name] for place in places if name in place), None)


def _end_of(text: str, at: int, reference: Json) -> int | None:
    """Where the reference ends, if it stands at `at` in plain spelling."""
    names = strings(reference["fields"])
    if "A_Star" in reference["fields"][-1]:
        names.append("*")
    return end_of_name(text, at, names)


def _replacement(
    reference: Json, items: Sequence[_Item], personal: Mapping[str, frozenset[str]], is_named: bool, stars_expand: bool
) -> tuple[str, set[str]] | None:
    """The text in the reference's place, and the masked columns; None where nothing is to be masked, or cannot be."""
    names = strings(reference["fields"])
    if "A_Star" in reference["fields"][-1]:
        chosen = [item for item in items if not names or item.name == names[-1]]
        hidden = {f"{i.table}.{c}" for i in chosen for c in i.columns or () if c in personal.get(i.table, ())}
        if not hidden or (not names and not stars_expand) or len({item.name for item in items}) < len(items):
            return None
        return ", ".join(text for item in chosen for text in _star(item, personal.get(item.table, frozenset()))), hidden
    held = [item for item in items if names[-1] in (item.columns or ()) and (len(names) == 1 or item.name == names[-2])]
    if len(held) != 1 or names[-1] not in personal.get(held[0].table, ()):
        return None
    return _mask() if is_named else f"{_mask()} AS {_quoted(names[-1])}", {f"{held[0].table}.{names[-1]}"}


def _star(item: _Item, hidden: frozenset[str]) -> Iterator[str]:
    if item.columns is None:
        yield f"{_quoted(item.name)}.*"
        return
    for column in item.columns:
        yield f"{_mask()} AS {_quoted(column)}" if column in hidden else f"{_quoted(item.name)}.{_quoted(column)}"


def _mask() -> str:
    return f"'{MASK}'::text"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
