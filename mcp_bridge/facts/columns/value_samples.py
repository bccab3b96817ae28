"""Why is a column text, and do its options fit? A sentence about the values that the table's last build counted."""

from collections.abc import Mapping
from typing import Any

from mcp_bridge.facts.relations import Column

# The kind of most values of a text column, and the cast that reads them.
_ARE: Mapping[str, tuple[str, str]] = {
    "integer": ("whole numbers", "safe_bigint"),
    "decimal": ("numbers", "safe_numeric"),
    "date": ("dates", "safe_date"),
    "datetime": ("instants", "safe_timestamptz"),
    "time": ("times of day", "safe_time"),
}


def about_values(column: Column, *, examples: bool) -> str | None:
    """The sentence; None for most columns. `examples`: whether values may be shown, so only if they are not personal data."""
    sample: Mapping[str, Any] = column.facts.get("values", {})
    if "options_unfit" in sample:
        such = [repr(answer) for answer in sample["such_as"]] if examples else []
        named = f", such as {', '.join(such)}" if such else ""
        return f"The options do not fit the data: {sample['options_unfit']} of {sample['of']} answers are none of them{named}."
    if column.type != "text" or sample.get("are") not in _ARE:
        return None
    what, cast = _ARE[sample["are"]]
    example = f": {sample['not']!r}" if examples and "not" in sample else ""
    reads = f"{cast}({column.name}) reads them, NULL where it is none."
    if sample["fitting"] < sample["of"]:
        return f"Text, though {sample['fitting']} of {sample['of']} values seen are {what}: others are not{example}. {reads}"
    if "not" in sample:
        return f"Text: all {sample['of']} values seen are {what}, not all of them written so{example}. {reads}"
    return f"Text, though the {sample['of']} values seen are {what}: they are too few to tell, or others came before. {reads}"
