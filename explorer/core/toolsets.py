"""Which groups of tools are there beside those that every agent sees? Each costs tokens in every conversation, so it is turned on
for those who work with it: by a token, by a person who signs in, or for all by `EXPLORER_BRIDGE_TOOLSETS`.
"""

from collections.abc import Iterable
from enum import StrEnum

from explorer.core.errors import ExplorerError


class ToolsetUnknown(ExplorerError):
    """No such toolset."""

    code = "toolset_unknown"


class Toolset(StrEnum):
    """A group of tools beside the default ones."""

    SCHEMA = "schema"  # what a tenant consists of: its schemas, words, personal data
    MODELS = "models"  # SELECTs that are kept as tables
    WORKSPACES = "workspaces"  # several tenants in one query
    OPERATIONS = "operations"  # logs, plans, schedules, one's own activity

    @classmethod
    def listed(cls, text: str) -> frozenset["Toolset"]:
        """The toolsets of a list with commas; `all` is all of them.

        Raises:
            ToolsetUnknown
        """
        names = [name.strip() for name in text.split(",") if name.strip()]
        if "all" in names:
            return frozenset(cls)
        unknown = [name for name in names if name not in set(cls)]
        if unknown:
            raise ToolsetUnknown(
                f"There is no toolset {unknown[0][:40]!r}.", next_step=f"Use some of: {', '.join(cls)}; or all."
            )
        return frozenset(map(cls, names))

    @classmethod
    def stored(cls, names: Iterable[str]) -> frozenset["Toolset"]:
        """The toolsets as stored; one that this version does not know is left out."""
        return frozenset(cls(name) for name in names if name in set(cls))
