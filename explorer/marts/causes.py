"""Why were models not built? In words: the first cause once, before its consequences."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from explorer.marts.manifest import Models
from explorer.marts.results import FAILED, SUCCESS, NodeResult
from explorer.tables.engine.causes import because_of

_MAX_CAUSE_CHARS = 400
# Text that dbt adds around the database's message.
_OF_DBT = re.compile(
    r"^(?:\w+ Error in (?:model|test) .*|\w*compiled code at .*|> in macro .*|> called by .*)$", re.IGNORECASE
)


@dataclass(frozen=True)
class Cause:
    """Why a model was not built; `roots`: the failed models that are the reason, if it did not fail itself."""

    message: str
    roots: tuple[str, ...] = ()


def cause_of(message: str | None) -> str:
    """The database's message within dbt's message, in one line."""
    lines = [line.strip() for line in (message or "").splitlines()]
    said = " ".join(line for line in lines if line and not _OF_DBT.match(line))
    return (said or " ".join(lines).strip() or "no reason was given")[:_MAX_CAUSE_CHARS]


def causes(models: Models, results: Iterable[NodeResult]) -> dict[str, Cause]:
    """Model to cause, for models that failed and for those that dbt skipped because something that they read failed."""
    done = {result.name: result for result in results}
    found: dict[str, Cause] = {}
    for name in models.by_name:
        result = done.get(name)
        if result is not None and result.status in FAILED:
            found[name] = Cause(cause_of(result.message))
        elif roots := _roots(models, name, found):
            found[name] = Cause(because_of({root: found[root].message for root in roots}), roots)
        elif result is not None and result.status not in SUCCESS:
            # A failed test of what it reads keeps dbt from building a model, too.
            found[name] = Cause(f"not built: {cause_of(result.message)}")
    return found


def _roots(models: Models, name: str, found: Mapping[str, Cause]) -> tuple[str, ...]:
    causes = ((each, found[each]) for each in models.inputs(name) if each in found)
    return tuple(dict.fromkeys(root for each, cause in causes for root in cause.roots or (each,)))
