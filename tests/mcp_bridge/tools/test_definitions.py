"""The texts that the model sees before its first call: definitions, instructions, the manual."""

import json
import re

import pytest

from explorer.catalog import DEFAULT_SCOPES
from explorer.core.toolsets import Toolset
from mcp_bridge import docs
from mcp_bridge.answers.envelope import InvalidArgument
from mcp_bridge.answers.wording import Wording
from mcp_bridge.gate.arguments import parse
from mcp_bridge.gate.tool import Tool
from mcp_bridge.server import INSTRUCTIONS
from mcp_bridge.tools import ALL_TOOLS
from tests.mcp_bridge.o200k import o200k

# What every conversation pays for `tools/list`, with the default set of fifteen.
MAX_LISTING_TOKENS = 4_000
NAMES: dict[Toolset | None, set[str]] = {
    None: {
        "list_tenants",
        "list_tables",
        "describe_table",
        "get_metadata",
        "search_metadata",
        "query",
        "export_query",
        "get_lineage",
        "list_pipelines",
        "run_materialization",
        "get_materialization_status",
        "list_runs",
        "compare_runs",
        "cancel_materialization",
        "get_schema_status",
    },
    Toolset.SCHEMA: {"provision_schema", "teardown_schema", "set_semantics", "set_personal_data"},
    Toolset.MODELS: {"save_model", "list_models", "drop_model"},
    Toolset.WORKSPACES: {"set_workspace", "list_workspaces", "describe_workspace"},
    Toolset.OPERATIONS: {"configure_pipeline", "list_activity", "get_run_logs"},
}
ALL_NAMES = {name for names in NAMES.values() for name in names}


def test_exactly_these_tools_and_no_longer_than_agreed() -> None:
    found: dict[Toolset | None, set[str]] = {}
    for tool in ALL_TOOLS:
        found.setdefault(tool.toolset, set()).add(tool.name)
    assert found == NAMES
    assert len(NAMES[None]) <= 15
    assert all(tool.scope is None or tool.scope in DEFAULT_SCOPES for tool in ALL_TOOLS if tool.toolset is None)
    assert o200k(docs.listing()) <= MAX_LISTING_TOKENS


@pytest.mark.parametrize("tool", ALL_TOOLS, ids=lambda tool: tool.name)
def test_a_definition_tells_all_it_should(tool: Tool) -> None:
    definition = tool.definition(docs.wording())
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", definition.name)
    assert 15 <= len(definition.description.split()) <= 120
    hints = definition.annotations.model_dump()
    assert all(
        isinstance(hints[f"{hint}_hint"], bool) for hint in ("read_only", "destructive", "idempotent", "open_world")
    )
    for name, prop in definition.input_schema["properties"].items():
        assert prop["description"], name
        assert "type" in prop or "enum" in prop, name
    if definition.name.startswith("list_"):
        assert definition.input_schema["properties"]["limit"]["default"] <= 50
        assert "cursor" in definition.input_schema["properties"]
    assert definition.annotations.read_only_hint is not tool.mutates


def test_other_tools_named_in_words_exist() -> None:
    words = " ".join([INSTRUCTIONS, *(tool.description for tool in ALL_TOOLS)])
    mentioned = set(
        re.findall(r"\b(?:list|get|describe|run|compare|cancel|provision|search|set|teardown)_[a-z_]+\b", words)
    )
    assert mentioned - {"run_id", "run_url"} <= ALL_NAMES


def test_instructions_are_short() -> None:
    assert len(INSTRUCTIONS) <= 2000


def test_the_manual_is_current() -> None:
    assert docs.TARGET.read_text(encoding="utf-8") == docs.render(), "run python -m mcp_bridge.docs"


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("query", {}, "'sql' is required"),
        ("query", {"sql": "select 1", "limt": 3}, "did you mean 'limit'"),
        ("query", {"sql": "select 1", "limit": 0}, "'limit'"),
        ("list_tables", {"response_format": "huge"}, "'concise' or 'detailed'"),
        ("run_materialization", {"wait_s": 46}, "less than or equal to 45"),
        ("run_materialization", {"assets": []}, "'assets'"),
        ("list_runs", {"status": ["DONE"]}, "'status.0'"),
    ],
)
def test_bad_arguments_are_told_in_words(name: str, arguments: dict[str, object], said: str) -> None:
    tool = next(tool for tool in ALL_TOOLS if tool.name == name)
    with pytest.raises(InvalidArgument) as caught:
        parse(tool, arguments)
    assert said in caught.value.message
    assert "pydantic" not in json.dumps(caught.value.as_dict())


def test_a_list_may_come_as_json_text() -> None:
    tool = next(tool for tool in ALL_TOOLS if tool.name == "list_runs")
    assert parse(tool, {"status": '["SUCCESS","FAILURE"]'}).model_dump()["status"] == ["SUCCESS", "FAILURE"]


def test_texts_name_the_systems_that_the_pipelines_are_of() -> None:
    listed = {tool.name: tool.definition(docs.wording()) for tool in ALL_TOOLS}
    assert "tenants (CommCare project spaces) that" in listed["list_tenants"].description
    assert "from CommCare by a Dagster run" in listed["run_materialization"].description
    assert listed["run_materialization"].input_schema["properties"]["pipeline"]["default"] == "commcare_sync"
    assert docs.wording().fill(INSTRUCTIONS).startswith("Data Explorer: CommCare project spaces (tenants) as")
    several = Wording("A and B", "A gardens and B fields", None)
    other = {tool.name: tool.definition(several) for tool in ALL_TOOLS}
    assert "from A and B by a Dagster run" in other["run_materialization"].description
    assert "default" not in other["run_materialization"].input_schema["properties"]["pipeline"]
    assert "{" not in "".join(definition.description for definition in other.values())
