"""Facts of generated columns in their source's words. Stored by `contract.bookkeeping.columns`."""

from collections.abc import Iterable, Mapping
from typing import Any

from explorer.contract.bookkeeping.columns import ColumnFacts, FactsOfTable
from explorer.tables.values import TableSpec


def facts_of(tables: Iterable[TableSpec]) -> dict[str, FactsOfTable]:
    """Table to the facts of each column that comes from a question or property; other columns have none."""
    return {table.name: _facts(table) for table in tables}


def _facts(table: TableSpec) -> FactsOfTable:
    found: dict[str, ColumnFacts] = {}
    for column in table.columns:
        if column.reads is not None and column.name != "case_id":
            found[column.name] = {"case_block": list(column.reads[:-1])}
        elif column.path is not None:
            options = [_filled(option.to_dict()) for option in column.options]
            facts = {"path": list(column.path), "question_type": column.question_type, "label": column.label}
            words = {"translations": dict(column.translations), "options": options, "values": column.values}
            found[column.name] = ColumnFacts(**_filled({**facts, **words}))  # type: ignore[typeddict-item]
    return found


def _filled(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value}
