"""Which addresses has what a bridge tells? Hosts read them as resources, and find them as links in answers."""

import re
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote, unquote

import mcp_types as types

JSON = "application/json"
_PLACE = re.compile(r"\{(\w+)\}")
_URI_CHARS = 600


@dataclass(frozen=True)
class Addressed:
    """What lies under one form of address. `template`: with the arguments of `tool` as places."""

    template: str
    tool: str
    title: str
    description: str

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        parts = _PLACE.split(self.template)
        return re.compile("".join(f"(?P<{part}>[^/?#]+)" if n % 2 else re.escape(part) for n, part in enumerate(parts)))

    def arguments(self, uri: str) -> dict[str, str] | None:
        """The tool's arguments of an address; None when it has another form."""
        found = self._pattern.fullmatch(uri) if len(uri) <= _URI_CHARS else None
        return {name: unquote(text) for name, text in found.groupdict().items()} if found else None

    def uri(self, **arguments: str) -> str:
        """The address of these arguments."""
        return _PLACE.sub(lambda place: quote(arguments[place[1]], safe=""), self.template)


TABLE = Addressed(
    "table://{tenant}/{table}", "describe_table", "A table", "Columns, questions, joins and state of a table."
)
RUN = Addressed("run://{run_id}", "get_materialization_status", "A run", "Steps, errors and changes of a run.")
SEMANTICS = Addressed(
    "semantics://{tenant}",
    "describe_semantics",
    "Meanings",
    "Entities, measures, synonyms and example queries of a tenant.",
)
ADDRESSED = (TABLE, RUN, SEMANTICS)


def link(to: Addressed, name: str, **arguments: str) -> types.ResourceLink:
    """A link in an answer."""
    return types.ResourceLink(uri=to.uri(**arguments), name=name, mime_type=JSON)
