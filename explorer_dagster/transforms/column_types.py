"""Which type does a column have: by what its application declares, what the column was before, and the values seen so far?

Rules, in this order:

- A column whose question declares a type has that one. Others (case properties without a question of the same name, hidden
  values, answers that no application describes) are typed by their values: dates and times by the first, numbers by the first
  twenty, provided that every value fits and is written the way the database would write it ("007" is text).
- A type once settled stays. It only ever becomes wider: an application that declares another type makes the column one that
  holds both.
- A value that does not fit is NULL in its column, and counted. When none of the values fit, more than one in ten of at least a
  hundred, or more than half of at least twenty that came with the last load, the column becomes wider: whole numbers decimal
  and dates instants where that helps, else text. Types taken from values become wider with the first value that needs it.

Which values fit is the same here and in the casts of dbt_project/macros/casts.sql.
"""

import re
from collections.abc import Mapping
from typing import Literal

Kind = Literal["integer", "decimal", "date", "datetime", "time", "text", "choices", "geopoint"]
"""What a column holds; `choices` are several texts, `geopoint` is four numbers."""

Counts = Mapping[str, int]
"""How many values of each class (see `classify`) were seen; blank ones are not counted."""

KINDS: Mapping[str | None, Kind | None] = {
    "Int": "integer",
    "Long": "integer",
    "Double": "decimal",
    "Date": "date",
    "DateTime": "datetime",
    "Time": "time",
    "MSelect": "choices",
    "Geopoint": "geopoint",
    # Hidden values and answers that no application describes.
    "DataBindOnly": None,
    None: None,
}

_FITS: Mapping[Kind, frozenset[str]] = {
    "integer": frozenset({"integer", "digits"}),
    "decimal": frozenset({"integer", "digits", "decimal", "number"}),
    "date": frozenset({"date", "midnight"}),
    "datetime": frozenset({"date", "midnight", "datetime"}),
    "time": frozenset({"time"}),
}
# Values that say by themselves what they are, and how many of them it takes.
_TYPED_BY_VALUES: tuple[tuple[Kind, frozenset[str], int], ...] = (
    ("date", frozenset({"date"}), 1),
    ("datetime", frozenset({"date", "midnight", "datetime"}), 1),
    ("time", frozenset({"time"}), 1),
    ("integer", frozenset({"integer"}), 20),
    ("decimal", frozenset({"integer", "decimal"}), 20),
)
_NEXT: Mapping[Kind, Kind] = {"integer": "decimal", "date": "datetime"}
_MANY, _MANY_OF_LATEST = 100, 20

_SPACE = r"[ \t\n\r\f\v]*"
_DATE = (
    r"(?!0000)(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|"
    r"02-(?:0[1-9]|1[0-9]|2[0-8]))|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
)
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?"
_ZONE = r"(?:Z|[+-](?:0[0-9]|1[0-4])(?::?[0-5][0-9])?)?"
_CLASSES = re.compile(
    rf"(?P<integer>0|-?[1-9][0-9]{{0,17}})\Z"
    rf"|(?P<decimal>-?(?:0|[1-9][0-9]{{0,14}})\.[0-9]{{1,12}})\Z"
    rf"|(?P<date>{_DATE})\Z"
    rf"|{_SPACE}(?:"
    rf"(?P<digits>[+-]?[0-9]+)"
    rf"|(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{{1,2}})?)"
    rf"|(?P<midnight>{_DATE}(?:[T ]00:00(?::00(?:\.0{{1,9}})?)?{_ZONE})?)"
    rf"|(?P<datetime>{_DATE}[T ]{_TIME}{_ZONE})"
    rf"|(?P<time>{_TIME}{_ZONE})"
    rf"){_SPACE}\Z"
)
# Longer texts are no whole number, no number.
_DIGITS_MAX, _NUMBER_MAX = 40, 100
_STARTS = frozenset("0123456789+-. \t\n\r\f\v")


def classify(value: str) -> str:
    """The class of a value: integer, decimal and date as the database writes them; digits, number, midnight, datetime and time as
    the casts take them; text for all else. A value of white space is `blank`."""
    if value[:1] not in _STARTS:
        return "text" if value else "blank"
    found = _CLASSES.match(value)
    if found is None:
        return "blank" if not value.strip(" \t\n\r\f\v") else "text"
    name = str(found.lastgroup)
    if name == "digits" and not (len(value) <= _DIGITS_MAX and -(2**63) <= int(value) < 2**63):
        name = "number"
    return "text" if name == "number" and len(value) > _NUMBER_MAX else name


def settle(declared: Kind | None, before: Kind | None, seen: Counts, latest: Counts) -> Kind | None:
    """The column's type; None while nothing tells it: the column is text until then.

    `before`: what this function gave the last time. `seen`: all values; `latest`: those of the last load among them.
    """
    kind = before or declared or _by_values(seen)
    if before and declared:
        kind = wider(before, declared)
    while kind and kind in _FITS and _must_widen(kind, declared is not None, seen, latest):
        kind = _step(kind, seen)
    return kind


def _by_values(seen: Counts) -> Kind | None:
    classes = {name for name, count in seen.items() if count}
    if not classes:
        return None
    for kind, allowed, needed in _TYPED_BY_VALUES:
        if classes <= allowed:
            return kind if sum(seen.values()) >= needed else None
    return "text"


def wider(one: Kind, other: Kind) -> Kind:
    """The type that holds what either of two types does."""
    if one == other:
        return one
    return next((wide for narrow, wide in _NEXT.items() if {one, other} == {narrow, wide}), "text")


def _must_widen(kind: Kind, is_declared: bool, seen: Counts, latest: Counts) -> bool:
    lost, total = _lost(kind, seen), sum(seen.values())
    if lost == 0:
        return False
    if lost == total or (not is_declared and _lost(_step(kind, seen), seen) == 0 and _step(kind, seen) != "text"):
        return True
    share_of_all = total >= _MANY and lost * 10 > total
    return share_of_all or (sum(latest.values()) >= _MANY_OF_LATEST and _lost(kind, latest) * 2 > sum(latest.values()))


def _step(kind: Kind, seen: Counts) -> Kind:
    wider = _NEXT.get(kind, "text")
    return wider if _lost(wider, seen) < _lost(kind, seen) else "text"


def _lost(kind: Kind, seen: Counts) -> int:
    fits = _FITS.get(kind)
    return 0 if fits is None else sum(count for name, count in seen.items() if name not in fits)
