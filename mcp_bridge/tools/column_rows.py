"""How is one column written in an answer? Its texts and the statistics of its values, without personal data."""

from typing import Any

from mcp_bridge.answers.envelope import without_nulls
from mcp_bridge.facts.columns.statistics import ColumnStatistics
from mcp_bridge.facts.columns.value_samples import about_values
from mcp_bridge.facts.relations import Column

# Tokens, by whether the answer is detailed.
COLUMN_TOKENS = {True: 1_200, False: 300}
_MAX_LABEL_CHARS = 160
_MAX_OPTIONS = {True: 100, False: 12}
_MAX_COMMON = {True: 10, False: 3}
# Below both limits, a column's most common values are not informative: they are a few of many.
_INFORMATIVE_SHARE, _INFORMATIVE_COUNT = 0.05, 20


def column_row(
    column: Column, statistics: ColumnStatistics | None, pii: str | None, *, detailed: bool
) -> dict[str, Any]:
    """A column in full. Values are included only if they are not personal data."""
    row: dict[str, Any] = {"name": column.name, "type": column.type, "pii": pii}
    if detailed or not column.nullable:
        row["nullable"] = column.nullable
    row |= _words_of_column(column, detailed=detailed)
    row["values"] = about_values(column, examples=pii is None)
    if statistics is not None:
        row |= {"null_share": statistics.null_share, "distinct": statistics.distinct}
    if statistics is not None and pii is None:
        row |= {"min": statistics.least, "max": statistics.greatest}
        if detailed or (not column.name.endswith("_id") and _is_informative(statistics)):
            row["common"] = [[value, share] for value, share in statistics.common[: _MAX_COMMON[detailed]]]
    return without_nulls(row)


def _is_informative(statistics: ColumnStatistics) -> bool:
    few = statistics.distinct is not None and statistics.distinct <= _INFORMATIVE_COUNT
    return few or (bool(statistics.common) and statistics.common[0][1] >= _INFORMATIVE_SHARE)


def _words_of_column(column: Column, *, detailed: bool) -> dict[str, Any]:
    facts, options = column.facts, column.facts.get("options", [])
    label = facts.get("label")
    comment = column.comment or ""
    shown = options[: _MAX_OPTIONS[detailed]]
    more = {"options_omitted": len(options) - len(shown)} if len(shown) < len(options) else {}
    if detailed:
        path = "/".join(facts["path"]) if facts.get("path") else None
        words = {"label": label, "translations": facts.get("translations") or None, "path": path, "options": shown}
        return words | more | {"question_type": facts.get("question_type"), "description": comment}
    if label and label != facts["path"][-1] and not label.startswith("/data/"):
        named = [f"{option['value']}={option.get('label', '')[:60]}" for option in shown]
        return {"label": label[:_MAX_LABEL_CHARS], "options": "; ".join(named), **more}
    return {"description": comment[:_MAX_LABEL_CHARS]}
