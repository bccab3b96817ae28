"""Why is a column text, and do its options fit? What the values seen so far told the run that built the table, in a sentence."""

from collections.abc import Mapping
from typing import Any

from mcp_bridge.facts.relations import Column

# What most values of a text column are, and the cast that reads them.
_ARE: Mapping[str, tuple[str, str]] = {
    "integer": ("whole numbers", "safe_bigint"),
    "decimal": ("numbers", "safe_numeric"),
    "date": ("dates", "safe_date"),
    "datetime": ("instants", "safe_timestamptz"),
    "time": ("times of day", "safe_time"),
}


def told_of_values(column: Column, *, examples: bool) -> str | None:
    """None for most columns. `examples`: whether a value may be shown, which is nobody's personal data."""
    seen: Mapping[str, Any] = column.facts.get("values", {})
    if "options_unfit" in seen:
        such = [repr(answer) for answer in seen["such_as"]] if examples else []
        named = f", such as {', '.join(such)}" if such else ""
        return (
            f"The options do not fit the data: {seen['options_unfit']} of {seen['of']} answers are none of them{named}."
        )
    if column.type != "text" or seen.get("are") not in _ARE:
        return None
    what, cast = _ARE[seen["are"]]
    example = f": {seen['not']!r}" if examples and "not" in seen else ""
    reads = f"{cast}({column.name}) reads them, NULL where it is none."
    if seen["fitting"] < seen["of"]:
        return (
            f"Text, though {seen['fitting']} of {seen['of']} values seen are {what}: others are not{example}. {reads}"
        )
    if "not" in seen:
        return f"Text: all {seen['of']} values seen are {what}, not all of them written so{example}. {reads}"
    return f"Text, though the {seen['of']} values seen are {what}: they are too few to tell, or others came before. {reads}"
