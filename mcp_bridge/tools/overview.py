"""How is a whole tenant shown in one answer? One line per table; columns that all tables of a kind share are listed once.

When not all columns fit, each table gets an equal share of the room, plus what smaller tables leave. A table with missing
columns says how many are missing.
"""

from collections.abc import Sequence
from typing import Any

from explorer.core.words import words
from mcp_bridge.answers.envelope import age_s, clipped, weight
from mcp_bridge.facts.relations import Column
from mcp_bridge.facts.table_facts import TableFacts

# Kinds with many tables per tenant that have the same key columns.
_FAMILIES = ("case_type", "form", "repeat")
_MIN_FAMILY = 2
_MAX_ABOUT_TOKENS = 30
_MAX_SHARED_TOKENS = 500
# A table whose columns would get less room than this is moved to another page.
_MIN_COLUMNS_TOKENS = 30


def overview(
    page: Sequence[TableFacts], tables: Sequence[TableFacts], columns: dict[str, list[Column]], room: int
) -> dict[str, Any]:
    """`{tables: [{name, kind, rows, age_s?, about?, columns}], columns_of_every?: {kind: columns}}` within `room` tokens,
    perhaps with fewer tables than the page. `tables`: all of the tenant's. A column is its name, with its type unless the type
    is text."""
    shared = {kind: found for kind in _FAMILIES if (found := _shared(kind, tables, columns))}
    answer: dict[str, Any] = {}
    if shared:
        answer["columns_of_every"] = {kind: _within(found, _MAX_SHARED_TOKENS) for kind, found in shared.items()}
    heads = [_head(facts) for facts in page]
    own = [[c for c in _written(columns[f.name]) if c not in shared.get(f.kind, ())] for f in page]
    room -= weight(answer)
    costs = [weight({**head, "columns": ""}) + 1 for head in heads]
    while len(costs) > 1 and sum(costs) + _MIN_COLUMNS_TOKENS * len(costs) > room:
        costs.pop()
    heads, own = heads[: len(costs)], own[: len(costs)]
    left = room - sum(costs)
    return answer | {
        "tables": [{**head, "columns": text} for head, text in zip(heads, _shares(own, left), strict=True)]
    }


def _head(facts: TableFacts) -> dict[str, Any]:
    head: dict[str, Any] = {"name": facts.name, "kind": facts.kind, "rows": facts.row_count}
    head |= {"age_s": age_s(facts.provenance.build.as_of)} if facts.provenance.build else {}
    about = facts.description.strip().partition("\n")[0].partition(" (")[0].partition(". ")[0]
    # A generated table's description is left out when its words are all in the table's name.
    known = {
        *words(facts.name),
        "one",
        "row",
        "per",
        "case",
        "of",
        "type",
        "submission",
        "the",
        "form",
        "open",
        "or",
        "closed",
    }
    if set(words(about)) - known:
        head["about"] = clipped(about, _MAX_ABOUT_TOKENS)
    return head


def _written(columns: Sequence[Column]) -> list[str]:
    return [column.name if column.type == "text" else f"{column.name} {column.type}" for column in columns]


def _shared(kind: str, tables: Sequence[TableFacts], columns: dict[str, list[Column]]) -> list[str]:
    """The columns that all tables of a kind have, in the order of the first table."""
    family = [_written(columns[facts.name]) for facts in tables if facts.kind == kind and columns[facts.name]]
    if len(family) < _MIN_FAMILY:
        return []
    common = set(family[0]).intersection(*family[1:])
    return [column for column in family[0] if column in common]


def _shares(listed: Sequence[Sequence[str]], room: int) -> list[str]:
    """The columns of each table as text, cut so that all together cost at most `room`. Short lists are served first."""
    texts = [", ".join(columns) for columns in listed]
    costs = [weight(text) for text in texts]
    open_ = sorted(range(len(texts)), key=costs.__getitem__)
    for position, index in enumerate(open_):
        share = max(0, room) // (len(open_) - position)
        texts[index] = _within(listed[index], share)
        room -= weight(texts[index])
    return texts


def _within(columns: Sequence[str], room: int) -> str:
    """As many columns as fit into `room`, and the number of the others."""
    text = ", ".join(columns)
    if weight(text) <= room:
        return text
    room -= weight(f", +{len(columns)} more")
    fitting: list[str] = []
    for column in columns:
        room -= weight(column) + 1
        if room < 0:
            break
        fitting.append(column)
    return ", ".join([*fitting, f"+{len(columns) - len(fitting)} more"]) if fitting else f"{len(columns)} columns"
