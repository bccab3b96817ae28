"""Generates the manual of the tools from their definitions: `python -m mcp_bridge.docs` writes docs/tools.md."""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from explorer.core.toolsets import Toolset
from explorer.providers import provider_named
from explorer.registry import load_pipelines
from mcp_bridge.answers.envelope import MAX_ANSWER_TOKENS, compact_json
from mcp_bridge.answers.wording import Wording
from mcp_bridge.gate.tool import Tool
from mcp_bridge.tools import ALL_TOOLS

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "tools.md"


@cache
def wording() -> Wording:
    """The wording for the checkout's own pipelines."""
    return Wording.of(load_pipelines(ROOT / "pipelines").values(), provider_named)


def listing() -> str:
    """The `tools/list` response of the default set, as sent when every scope is granted."""
    return compact_json([_wire(tool) for tool in ALL_TOOLS if tool.toolset is None])


def render() -> str:
    """The manual as Markdown."""
    digest = hashlib.sha256(listing().encode()).hexdigest()
    lines = [
        "# Tools of the MCP bridge",
        "",
        "Made by `python -m mcp_bridge.docs`; a test keeps it equal to the code.",
        "",
        f"{sum(tool.toolset is None for tool in ALL_TOOLS)} tools are listed for everybody, within their scopes. SHA-256 of "
        f"their definitions as `tools/list` sends them (compact JSON): `{digest}`.",
        "",
        "Each tool costs tokens in every conversation, so the others are in toolsets (decisions/0090), which are hidden and "
        "refused (`toolset_off`) until they are turned on: by `explorer tokens create --toolsets NAME,NAME`, by a tick on the "
        "page where a person signs in, or for all callers of a bridge by `EXPLORER_BRIDGE_TOOLSETS`. A token that was granted "
        "`schema:manage`, `semantics:write` or `models:write`, which are given only by name, sees the tools that need it.",
        "",
        "| toolset | tools |",
        "|---|---|",
        *(f"| `{toolset}` | {names} |" for toolset in Toolset if (names := _of_toolset(toolset))),
        "",
        "Every answer is `success, note, data, tenant, schema, warnings, timing_ms`; a failure has `success=false` and "
        "`error{code, message, next_step, details?}` in place of the data. `note` says that names, labels, descriptions, "
        "cells and causes of errors are data of the source, never instructions. Over HTTP, 401 means that the "
        "token is not good, 503 that it cannot be checked at present.",
        "",
        "Each table has a record beside it, written in the transaction that changes its rows: `run_id` and `changed_at` are of "
        "that change. `as_of` is the moment up to which the source was read and the rows have all of it, `age_s` the seconds "
        "since; both may be later than the change, where the source had nothing new. `query` compares the records before and "
        "after it reads, and reads again if one changed: the run that it names for a table is that of the rows in the answer, "
        "also while a run is at work and while Dagster is down. All of them are `null` for a table that no run has recorded. Of "
        "a view the tables that it reads (`view_of`) are sources too.",
        "",
        f"An answer costs at most {MAX_ANSWER_TOKENS:,} tokens, but for `query` with `response_format=detailed` and the "
        "overlay that `set_semantics` shows. Tokens are counted by an estimate that errs upwards for every kind of text: "
        "identifiers, digits and other scripts cost what tokenizers make of them (decisions/0023), so that English comes "
        "out shorter. What does not fit is on the next page; a row that does not fit by itself has its long texts and "
        "lists cut and says `shortened`. A cursor is good for the arguments it was given for; any other is refused "
        "(`invalid_cursor`). A value that is none of a closed set is `invalid_argument`, with the values there are in "
        "`details.allowed`.",
        "",
        "What is known of tables is kept until the catalog says that a run has written them; while a run is at work, two "
        "seconds. What is older than ten minutes is still given, and learned anew for the next call. Of tenants asked "
        "about in the last hour the bridge reads what a run has left as soon as the run has ended. While a run is "
        "rebuilding a tenant's tables, `warnings` name it: some rows are of that run already, as "
        "told of each. Whether a schedule runs is asked of Dagster, at most every ten seconds, for "
        "all answers that speak of it (`schedules`, `freshness_rule`): running, stopped, or unknown while Dagster does "
        "not answer. Statistics of columns are PostgreSQL's own, from the build of the table: no row is read for them. "
        "Columns marked `pii` are masked in samples (by the database: the values do not leave it) and statistics; in the "
        "answers of `query` a column names the personal data it is made of, and a tenant may refuse or mask them "
        "([security.md](security.md#personal-data)). What counts as personal data is written in [semantics.md](semantics.md).",
        "",
        "What is amiss with a table stands with it in `list_tables` and `describe_table`, with the sources of a `query`, and in "
        "`warnings`; where nothing is amiss the field is absent:",
        "",
        "| field | meaning |",
        "|---|---|",
        "| `failing_checks` | checks of the table itself that failed when they last ran; others stand with their own table |",
        "| `unfit_values` | values that are no such number, date or choice; `describe_table` counts them per column (`unfit`) |",
        "| `values` | of a column in `describe_table`: why it is text though most values are dates or numbers, with the "
        "cast that reads them; or that a question's options do not fit the data |",
        "| `records_set_aside` | records that could not be loaded, told of the table of that name; `warnings` say why |",
        "| `last_build_failed` | the cause, where it is known; what the table is made from has changed since. Tables that are "
        "not there stand in `not_built` |",
        "| `type_changes` | columns that the last sync gave another type |",
        "| `retired` | the source is gone: since when, and after which day the table is dropped |",
        "",
        "Beside PostgreSQL's own functions as far as they are harmless, `query` knows casts that never fail, where the text is "
        "none NULL: `safe_bigint(text)`, `safe_numeric`, `safe_boolean`, `safe_date`, `safe_time`, `safe_timestamptz`, and "
        "`place_part(text, 1..4)` for latitude, longitude, altitude and accuracy of a place. What they take is written in "
        "[tables.md](tables.md). `question_options` has the label of each choice in each language, to join on.",
        "",
        "How the applications changed from sync to sync is told by `get_schema_status` (`structure`: the version, what it "
        "brought, in sentences, and the versions before it), also while a tenant has no schemas. Raw tables are named by "
        "`list_tables` and described by `kind=raw`; queries read them only where `EXPLORER_EXPOSE_RAW` is set.",
    ]
    for tool in ALL_TOOLS:
        lines += ["", *_section(tool)]
    return "\n".join(lines) + "\n"


def _wire(tool: Tool) -> dict[str, Any]:
    return tool.definition(wording()).model_dump(by_alias=True, exclude_none=True, mode="json")


def _of_toolset(toolset: Toolset) -> str:
    return ", ".join(f"`{tool.name}`" for tool in ALL_TOOLS if tool.toolset is toolset)


def _section(tool: Tool) -> list[str]:
    effects = "changes something" if tool.mutates else "reads only"
    if tool.destructive:
        effects = "destructive"
    scope = f"scope `{tool.scope.value}`" if tool.scope else "any valid token"
    needs = scope if tool.toolset is None else f"{scope}, toolset `{tool.toolset}`"
    lines = [f"## {tool.name}", "", wording().fill(tool.description), "", f"Needs: {needs}. Effect: {effects}."]
    schema = _wire(tool)["inputSchema"]
    properties = schema["properties"]
    if properties:
        lines += ["", "| argument | type | default | meaning |", "|---|---|---|---|"]
        required = schema.get("required", [])
        lines += [_row(name, prop, required=name in required) for name, prop in properties.items()]
    return lines


def _row(name: str, prop: dict[str, Any], *, required: bool) -> str:
    kind = " or ".join(f"`{value}`" for value in prop["enum"]) if "enum" in prop else str(prop.get("type", "any"))
    if "minimum" in prop and "maximum" in prop:
        kind += f" {prop['minimum']} to {prop['maximum']}"
    default = "required" if required else f"`{json.dumps(prop['default'])}`" if "default" in prop else ""
    return f"| `{name}` | {kind} | {default} | {prop.get('description', '')} |"


def main() -> None:
    """Write the manual."""
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
