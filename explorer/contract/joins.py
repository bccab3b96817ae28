"""What is a table, as far as its joins to others are asked for? Between the bridge, which knows the tables, and a provider."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Join = tuple[str, str, str]
"""`table.column` of one side and of the other, and why, for people."""


@dataclass(frozen=True)
class Joinable:
    """A table. `source`: what a generated one is cut by, in the provider's words; `blocks`: columns with the key of something
    below the row in the source's record, with the path to it."""

    kind: str
    source: str | None
    columns: Sequence[str]
    blocks: Mapping[str, str] = field(default_factory=dict)
