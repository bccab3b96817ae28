"""What do an organisation's claims about somebody give? The rules of the settings' file, applied to a token's content."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from explorer.catalog import Scope, UiRole
from mcp_bridge.sign_in.settings_file import Rule

# Longer values are no names of groups, and expressions are not tried on them.
_MAX_VALUE_LENGTH = 256
_MAX_VALUES = 2_000


def rights_by(
    rules: Sequence[Rule], claims: Mapping[str, Any], tenants: Collection[str]
) -> dict[str, frozenset[Scope]]:
    """Scopes by tenant key: all rules that fit add up. Keys that are no tenants are left out."""
    rights: dict[str, frozenset[Scope]] = {}
    for rule in rules:
        for value in values_of(claims, rule.path):
            for key in _keys(rule, value):
                if key in tenants:
                    rights[key] = rights.get(key, frozenset()) | rule.scopes
    return rights


def ui_role_by(rules: Sequence[Rule], claims: Mapping[str, Any]) -> UiRole | None:
    """The role in the Dagster UI that the rules give; the larger one of several."""
    found = {
        rule.ui_role for rule in rules if any(_fit(rule, value) is not None for value in values_of(claims, rule.path))
    }
    return next((role for role in (UiRole.OPERATE, UiRole.VIEW) if role in found), None)


def values_of(claims: Mapping[str, Any], path: Sequence[str]) -> list[str]:
    """The values of a claim: those of a list; of a text, the text and its words."""
    found: Any = claims
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        values = list(dict.fromkeys([found, *found.split()]))
    else:
        values = [value for value in found if isinstance(value, str)] if isinstance(found, list) else []
    return [value for value in values[:_MAX_VALUES] if 0 < len(value) <= _MAX_VALUE_LENGTH]


def are_left_out(rules: Sequence[Rule], claims: Mapping[str, Any]) -> bool:
    """Whether the provider left out a claim that a rule needs, because it is too long for a token (Entra, beyond 200 groups)."""
    elsewhere = claims.get("_claim_names")
    return isinstance(elsewhere, Mapping) and any(rule.path[0] in elsewhere for rule in rules)


def _keys(rule: Rule, value: str) -> Iterator[str]:
    """The tenants that the rule gives for this value; none when it does not fit."""
    groups = _fit(rule, value)
    if groups is not None:
        for key in rule.keys:
            yield re.sub(r"\{(\w+)\}", lambda name: groups[name[1]], key)


def _fit(rule: Rule, value: str) -> dict[str, str] | None:
    """The groups of the rule's expression in a value that fits; None when it does not fit."""
    if rule.any is not None:
        return {} if value in rule.any else None
    fits = rule.matches.fullmatch(value) if rule.matches is not None else None
    return {name: text or "" for name, text in fits.groupdict().items()} if fits else None
