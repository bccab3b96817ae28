"""Which usual analyses does the bridge offer to people as prompts? Each is a text for the agent, with what the person filled in.

A prompt holds no data and gives no right: what it asks for, the agent calls as the tools let it.
"""

from dataclasses import dataclass
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

_ARGUMENT_CHARS = 1_000
_HOW = (
    "Look names up before you use them, and use only names that an answer has shown. Tell how old the numbers are (age and "
    "run of each table that you read) and which checks of these tables fail. If the data cannot answer it, say so."
)


@dataclass(frozen=True)
class Analysis:
    """A prompt. `asks`: what the person fills in, with what it is; `text` has them as places."""

    name: str
    title: str
    description: str
    asks: dict[str, str]
    text: str

    def definition(self) -> types.Prompt:
        """As in `prompts/list`."""
        arguments = [
            types.PromptArgument(name=name, description=what, required=True) for name, what in self.asks.items()
        ]
        return types.Prompt(name=self.name, title=self.title, description=self.description, arguments=arguments)

    def filled(self, given: dict[str, str]) -> str:
        """The text for the agent. Raises: MCPError."""
        missing = [name for name in self.asks if not given.get(name, "").strip()]
        unknown = sorted(given.keys() - self.asks.keys())
        if missing or unknown:
            what = f"Missing: {', '.join(missing)}." if missing else f"Not asked for: {unknown[0][:80]}."
            raise MCPError(code=types.INVALID_PARAMS, message=f"{what} {self.name} takes {', '.join(self.asks)}.")
        cut = {name: text.strip()[:_ARGUMENT_CHARS] for name, text in given.items()}
        return f"{self.text.format_map(cut)} {_HOW}"


_TENANT = "Key of the tenant, such as www:my-domain"
ANALYSES = (
    Analysis(
        "trend",
        "Trend over time",
        "Counts by week or month, with the periods that are not over yet set apart.",
        {"tenant": _TENANT, "what": "What to count, such as visits or new cases", "period": "week or month"},
        "In tenant {tenant}, count {what} by {period}. search_metadata finds the table and the column of the day on which "
        "it happened; query counts with date_trunc, with a row for each {period} in between that has none. Leave the "
        "{period} that is not over out of the trend, name it, and say in two sentences what changed most.",
    ),
    Analysis(
        "breakdown",
        "Numbers by group",
        "Counts and shares by sex, age, place, worker or another group.",
        {"tenant": _TENANT, "what": "What to count, such as open cases", "by": "The groups, such as sex and age"},
        "In tenant {tenant}, count {what} by {by}. Use labels instead of codes where question_options or the owner columns "
        "have them. Show counts and shares of the whole, the group of those without a value too, and check that the groups "
        "add up to the whole.",
    ),
    Analysis(
        "freshness",
        "How fresh and sound is the data",
        "Ages, last runs and failing checks of the project spaces, worst first.",
        {},
        "list_tenants tells age, active run and last run of each tenant. For those that are stale, failed or have failing "
        "checks, get_metadata tells which tables. Tell it worst first, in one line per tenant, with what to do next.",
    ),
    Analysis(
        "what_changed",
        "What the last run changed",
        "New, changed and gone rows, columns and checks since the run before.",
        {"tenant": _TENANT},
        "For tenant {tenant}, compare_runs tells what changed between the last two runs. Tell what matters to somebody who "
        "uses the tables: unusual numbers of new or gone rows, columns that changed their type, checks that turned. Look "
        "at rows only where that explains a change.",
    ),
    Analysis(
        "quality",
        "Quality of a table",
        "Missing values, duplicates, unlikely values, failing checks.",
        {"tenant": _TENANT, "table": "Name of the table"},
        "In tenant {tenant}, judge the quality of table {table}: describe_table tells null shares, common values, ranges "
        "and checks. With query look for keys that occur twice, dates in the future, ages and numbers that cannot be, and "
        "values that are none of a question's options. Give counts and shares, and the one statement that shows the worst.",
    ),
    Analysis(
        "spreadsheet",
        "A file for a spreadsheet",
        "The rows of a question as a file to download.",
        {"tenant": _TENANT, "what": "Which rows and columns"},
        "In tenant {tenant}, make a file of {what}. Try the statement with query and a small limit first, then "
        "export_query with format csv. Give the link with its time of expiry, the number of columns, and which of them "
        "tell personal data.",
    ),
)
_BY_NAME = {analysis.name: analysis for analysis in ANALYSES}


async def list_prompts(
    ctx: ServerRequestContext[Any, Any], params: types.PaginatedRequestParams | None
) -> types.ListPromptsResult:
    """The handler of `prompts/list`."""
    return types.ListPromptsResult(prompts=[analysis.definition() for analysis in ANALYSES])


async def get_prompt(
    ctx: ServerRequestContext[Any, Any], params: types.GetPromptRequestParams
) -> types.GetPromptResult:
    """The handler of `prompts/get`. Raises: MCPError."""
    analysis = _BY_NAME.get(params.name)
    if analysis is None:
        known = ", ".join(_BY_NAME)
        raise MCPError(
            code=types.INVALID_PARAMS, message=f"There is no prompt {params.name[:80]!r}; there are {known}."
        )
    text = types.TextContent(type="text", text=analysis.filled(params.arguments or {}))
    return types.GetPromptResult(
        description=analysis.description, messages=[types.PromptMessage(role="user", content=text)]
    )
