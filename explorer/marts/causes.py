"""Why were tables not built? In words: the first cause once, before its consequences."""

import re
from collections.abc import Iterable, Mapping, Sequence

from explorer.marts.dbt.results import NodeResult

FAILED = frozenset({"error", "fail", "runtime error"})
_SKIPPED = "skipped"
_MAX_NAMES = 30
_MAX_CAUSES = 5
_MAX_CAUSE_CHARS = 400
# Text that dbt adds around the database's message.
_OF_DBT = re.compile(
    r"^(?:\w+ Error in (?:model|test) .*|\w*compiled code at .*|> in macro .*|> called by .*)$", re.IGNORECASE
)


def cause_of(message: str | None) -> str:
    """The database's message within dbt's message, in one line."""
    lines = [line.strip() for line in (message or "").splitlines()]
    said = " ".join(line for line in lines if line and not _OF_DBT.match(line))
    return (said or " ".join(lines).strip() or "no reason was given")[:_MAX_CAUSE_CHARS]


def causes(results: Iterable[NodeResult]) -> dict[str, str]:
    """Model to cause, for failed models and for those that were skipped because of a failed one."""
    models = {result.unique_id: result for result in results if result.resource_type == "model"}
    found = {}
    for result in models.values():
        if result.status in FAILED:
            found[result.name] = cause_of(result.message)
        elif result.status == _SKIPPED:
            roots = _failed_before(result, models)
            if roots:
                why = "; ".join(f"{root.name} failed: {cause_of(root.message)}" for root in roots[:_MAX_CAUSES])
                found[result.name] = f"not built, because {why}"
            else:
                found[result.name] = f"not built: {cause_of(result.message)}"
    return found


def summary(results: Sequence[NodeResult]) -> str | None:
    """A run's summary of models that were not built; None when all were built.

    `2 models failed: case_child, case_mother: could not extend file ...: No space left on device. 4 more were not built because
    of that: ...`.
    """
    models = [result for result in results if result.resource_type == "model"]
    failed = [result for result in models if result.status in FAILED]
    skipped = sorted(result.name for result in models if result.status == _SKIPPED)
    if not failed:
        return None
    by_cause: dict[str, list[str]] = {}
    for result in failed:
        by_cause.setdefault(cause_of(result.message), []).append(result.name)
    told = "; ".join(f"{named(names)}: {cause.rstrip('.')}" for cause, names in list(by_cause.items())[:_MAX_CAUSES])
    more = f"; and {len(by_cause) - _MAX_CAUSES} other causes" if len(by_cause) > _MAX_CAUSES else ""
    text = f"{len(failed)} model{'s' if len(failed) > 1 else ''} failed: {told}{more}."
    if skipped:
        text += (
            f" {len(skipped)} more {'were' if len(skipped) > 1 else 'was'} not built because of that: {named(skipped)}."
        )
    return text


def named(names: Sequence[str], most: int = _MAX_NAMES) -> str:
    """Names for a sentence, and how many more there are."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def _failed_before(result: NodeResult, models: Mapping[str, NodeResult]) -> list[NodeResult]:
    """The failed models among all ancestors of this one, nearest first."""
    found: dict[str, NodeResult] = {}
    seen: set[str] = set()
    layer = list(result.depends_on)
    while layer:
        following: list[str] = []
        for unique_id in layer:
            if unique_id in seen or unique_id not in models:
                continue
            seen.add(unique_id)
            parent = models[unique_id]
            if parent.status in FAILED:
                found[unique_id] = parent
            else:
                following += parent.depends_on
        layer = following
    return list(found.values())
