"""Which type does a column get, by its declaration, its type before, and its values so far?

A typed column is a promise. The rules, in order:

- Declared. A question's declared type is its column's type. A value fits if it is mathematically of that type (`12.0` is a whole
  number). A value that does not fit becomes NULL and is counted. When no value fits, more than one in ten of at least a hundred
  do not, or more than half of at least twenty in the last load do not, the column becomes wider: whole numbers become decimal
  and dates timestamps where that helps, else text. It also becomes wider when the application declares another type.
- Inferred. Other columns (case properties without a question of the same name, hidden values, answers that no application
  describes) are typed by their values: dates and times by the first one, numbers by the first twenty. A value fits only if the
  typed value, printed again, is the original text. The first value that does not fit makes the column text, permanently.
  Differently written numbers stay different: `1.10` is no decimal here, unlike `1.1`, and a column has either `3.0` or `3`, not
  both. For timestamps, printing again means an equal time in explicit UTC (`Z` or `+00:00`); for times of day, an equal time
  without a zone.

The casts of postgres/casts.sql accept the same values.
"""

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from typing import Literal, NamedTuple

Kind = Literal["integer", "decimal", "date", "datetime", "time", "text", "choices", "geopoint"]
"""The kind of a column; `choices` are several texts, `geopoint` is four numbers."""

Counts = Mapping[str, int]
"""Number of values by class (see `classify`), without empty ones."""

FITS: Mapping[Kind, frozenset[str]] = {
    "integer": frozenset({"integer", "point_zero", "whole"}),
    "decimal": frozenset({"integer", "point_zero", "whole", "decimal", "number"}),
    "date": frozenset({"date", "midnight", "midnight_utc"}),
    "datetime": frozenset({"date", "midnight", "midnight_utc", "instant", "datetime"}),
    "time": frozenset({"clock", "time"}),
}
"""Classes of values that fit a declared type: those that its cast accepts."""

# Classes of values that an inferred type prints unchanged (all values in one set), and how many values it takes to infer the
# type.
_GIVES_BACK: Mapping[Kind, tuple[tuple[frozenset[str], ...], int]] = {
    "date": ((frozenset({"date"}),), 1),
    "datetime": ((frozenset({"midnight_utc", "instant"}),), 1),
    "time": ((frozenset({"clock"}),), 1),
    "integer": ((frozenset({"integer"}),), 20),
    "decimal": ((frozenset({"integer", "decimal"}), frozenset({"point_zero", "decimal"})), 20),
}
_NEXT: Mapping[Kind, Kind] = {"integer": "decimal", "date": "datetime"}
_MANY, _MANY_OF_LATEST = 100, 20

_SPACE = r"[ \t\n\r\f\v]*"
_DATE = (
    r"(?!0000)(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|"
    r"02-(?:0[1-9]|1[0-9]|2[0-8]))|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
)
_MINUTE = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
# PostgreSQL stores microseconds: finer digits must be zero in a declared type, and do not fit an inferred one.
_CLOCK = rf"{_MINUTE}(?::[0-5][0-9](?:\.[0-9]{{1,6}})?)?"
_TIME = rf"{_MINUTE}(?::[0-5][0-9](?:\.[0-9]{{1,6}}0{{0,3}})?)?"
_ZONE = r"(?:Z|[+-](?:0[0-9]|1[0-4])(?::?[0-5][0-9])?)?"
_CLASSES = re.compile(
    rf"(?P<integer>0|-?[1-9][0-9]{{0,18}})\Z"
    rf"|(?P<decimal>-?(?:0|[1-9][0-9]*)\.[0-9]*[1-9])\Z"
    rf"|(?P<point_zero>-?[1-9][0-9]*\.0|0\.0)\Z"
    rf"|(?P<date>{_DATE})\Z"
    rf"|(?P<midnight_utc>{_DATE}[T ]00:00(?::00(?:\.0{{1,6}})?)?(?:Z|\+00:00))\Z"
    rf"|(?P<instant>{_DATE}[T ]{_CLOCK}(?:Z|\+00:00))\Z"
    rf"|(?P<clock>{_CLOCK})\Z"
    rf"|{_SPACE}(?:"
    rf"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{{1,2}})?)"
    rf"|(?P<midnight>{_DATE}(?:[T ]00:00(?::00(?:\.0{{1,9}})?)?{_ZONE})?)"
    rf"|(?P<datetime>{_DATE}[T ]{_TIME}{_ZONE})"
    rf"|(?P<time>{_TIME}{_ZONE})"
    rf"){_SPACE}\Z"
)
# Longer texts are no number.
_NUMBER_MAX = 100
_BLANKS = " \t\n\r\f\v"
_STARTS = frozenset("0123456789+-." + _BLANKS)
_BIGINT = range(-(2**63), 2**63)


def classify(value: str) -> str:
    """The class of a value; an empty one is `empty`.

    `integer`, `decimal` (`point_zero` if it ends so), `date`, `instant` (`midnight_utc` if it may stand for a date) and `clock`
    print unchanged. `whole`, `number`, `midnight`, `datetime` and `time` are other spellings of these, which the casts accept;
    `space` is only white space, `text` everything else.
    """
    if value[:1] not in _STARTS:
        return "text" if value else "empty"
    found = _CLASSES.match(value)
    if found is None:
        return "text" if value.strip(_BLANKS) else "space"
    name = str(found.lastgroup)
    if name not in ("integer", "point_zero", "decimal", "number"):
        return name
    if len(value) > _NUMBER_MAX:
        return "text"
    if name == "number":
        return "whole" if _is_whole(value) else name
    # Not every number of nineteen digits fits bigint.
    return name if name == "decimal" or len(value) < 19 or _is_whole(value) else "number"


def settle(declared: Kind | None, before: Kind | None, seen: Counts, latest: Counts) -> Kind | None:
    """The column's type; None while it is undecided, and the column is text.

    `before`: the last result of this function. `seen`: all values; `latest`: those of the last load.
    """
    if declared is None:
        return _inferred(before, seen)
    kind = wider(before, declared) if before else declared
    seen, latest = _answered(seen), _answered(latest)
    while kind in FITS and _must_widen(kind, seen, latest):
        kind = _step(kind, seen)
    return kind


class Likeness(NamedTuple):
    """What most values of a text column are: `fitting` of `total`; `others`: classes of the values that keep it text."""

    kind: Kind
    fitting: int
    total: int
    others: frozenset[str]


def likeness(seen: Counts) -> Likeness | None:
    """What the values of a text column would be without a few exceptions; None when fewer than half of them agree."""
    classes = {name: count for name, count in seen.items() if count}
    total = sum(classes.values())
    most = max(FITS, key=lambda kind: total - _lost(kind, classes))
    fitting = total - _lost(most, classes)
    if fitting * 2 < total or not fitting:
        return None
    others = frozenset(classes) - FITS[most] or frozenset(classes) - _GIVES_BACK[most][0][0]
    return Likeness(most, fitting, total, others)


def wider(one: Kind, other: Kind) -> Kind:
    """The type that holds the values of both types."""
    if one == other:
        return one
    return next((wide for narrow, wide in _NEXT.items() if {one, other} == {narrow, wide}), "text")


def _is_whole(value: str) -> bool:
    number = Decimal(value.strip(_BLANKS))
    return number == int(number) and int(number) in _BIGINT


def _inferred(before: Kind | None, seen: Counts) -> Kind | None:
    classes = {name for name, count in seen.items() if count}
    if before is not None:
        return before if before not in _GIVES_BACK or _gives_back(before, classes) else "text"
    if not classes:
        return None
    for kind, (_, needed) in _GIVES_BACK.items():
        if _gives_back(kind, classes):
            return kind if sum(seen.values()) >= needed else None
    return "text"


def _gives_back(kind: Kind, classes: AbstractSet[str]) -> bool:
    return any(classes <= allowed for allowed in _GIVES_BACK[kind][0])


def _answered(counts: Counts) -> Counts:
    """Without values of only white space: they answer no typed question."""
    return {name: count for name, count in counts.items() if name != "space"}


def _must_widen(kind: Kind, seen: Counts, latest: Counts) -> bool:
    lost, total = _lost(kind, seen), sum(seen.values())
    if lost == 0:
        return False
    if lost == total:
        return True
    share_of_all = total >= _MANY and lost * 10 > total
    return share_of_all or (sum(latest.values()) >= _MANY_OF_LATEST and _lost(kind, latest) * 2 > sum(latest.values()))


def _step(kind: Kind, seen: Counts) -> Kind:
    wider = _NEXT.get(kind, "text")
    return wider if _lost(wider, seen) < _lost(kind, seen) else "text"


def _lost(kind: Kind, seen: Counts) -> int:
    fits = FITS.get(kind)
    return 0 if fits is None else sum(count for name, count in seen.items() if name not in fits)
