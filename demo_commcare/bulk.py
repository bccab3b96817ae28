"""Serves millions of cases and forms without storing them.

`BulkHistory` is a sequence of families (household, woman, pregnancy, child), each case made by one registration form.
Document `i` is computed from its number with a template. The ordinary builders render the template once, so the document has
the same shape as those of the stories. A changed document leaves this history; `world` stores the changed copy.

Documents are written in blocks of 64. Values that differ between two blocks of the same variant are marks of one byte that no
JSON text contains; to replace the marks of a whole block takes about a microsecond per document.
"""

import json
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from demo_commcare.clock import iso, parse_instant
from demo_commcare.programme import maternal_apps, registrations
from demo_commcare.programme.app_model import App, Form
from demo_commcare.programme.journal import form_body
from demo_commcare.programme.names import CHILDREN, MEN, VILLAGES, WOMEN
from demo_commcare.programme.registrations import Event
from demo_commcare.records import CaseRecord, FormRecord, case_blocks, fold_case

Json = dict[str, Any]
KINDS = ("household", "mother", "pregnancy", "child")
FORMS: tuple[Form, ...] = (maternal_apps.HOUSEHOLD, maternal_apps.WOMAN, maternal_apps.PREGNANCY, maternal_apps.CHILD)
WORKERS = 8
PERIOD = len(KINDS) * WORKERS
BLOCK_BITS, _VARIANT_BITS = 6, 12
_BLOCK, _VARIANT = 1 << BLOCK_BITS, 1 << _VARIANT_BITS
_START_S = parse_instant("2022-01-03T00:00:00")[0] // 1_000_000
_SPAN_S = 2 * 365 * 86_400
_DEVICE_US, _SERVER_US, _INDEXED_US = (parse_instant(f"200{n}-01-01T01:01:01.000001")[0] for n in (1, 2, 3))
_SERVER_LAG_MS, _INDEX_LAG_MS = 480, 910
_FILLING_S = 240
# The activity of a block fills one of these spans (s); its instants differ only after this many characters.
_SPANS = ((86_400, 11), (3_600, 14), (600, 15), (60, 17))
# Marks in a template: upper digits of identifiers, first part of instants, date, index instant.
_HIGH, _PREFIX, _DATE, _INDEXED = map(chr, range(1, 5))
_ROOTS_KEPT = 4
_MARK = re.compile(r"@@(\w+?)_*@@")


def _mark(name: str) -> str:
    """A placeholder as long as an identifier, so that lengths computed from it are right."""
    return f"@@{name}".ljust(34, "_") + "@@"


class BulkHistory:
    """`count` cases and as many forms; every instant grows with the document's number."""

    def __init__(self, domain: str, count: int, seed: int, users: Sequence[Json], app: App) -> None:
        self.domain, self.count = domain, count
        self._app = app
        self._case_suffix = f"-ca5e-4000-a000-{seed & 0xFFFFFFFFFFFF:012x}"
        self._form_suffix = f"-f04a-4000-a000-{seed & 0xFFFFFFFFFFFF:012x}"
        self._blocks = -(-count // _BLOCK)
        self._span_s, self._cut = next((s for s in _SPANS if s[0] * self._blocks <= _SPAN_S), _SPANS[-1])
        self._step_s = max(1, _SPAN_S // self._blocks // self._span_s) * self._span_s
        self._reindexed_ms: int | None = None
        self._reindex_span_ms = 0
        self.owners = tuple(user["primary_location"] or user["id"] for user in users[:WORKERS])
        pairs = [self._templates(number, users) for number in range(PERIOD)]
        self._form_texts = [form for form, _ in pairs]
        self._case_texts = [case for _, case in pairs]
        self._cases_of: dict[int, list[bytes]] = {}
        self._forms_of: dict[str, dict[int, list[bytes]]] = {}
        self.case_samples = [self.case(number) for number in range(PERIOD)]
        self.form_samples = [self.form(number) for number in range(PERIOD)]

    def case_id(self, number: int) -> str:
        return f"{number:08x}{self._case_suffix}"

    def form_id(self, number: int) -> str:
        return f"{number:08x}{self._form_suffix}"

    def case_number(self, case_id: str) -> int | None:
        """The number of a case of this history, None for any other id."""
        return self._number(case_id, self._case_suffix)

    def form_number(self, form_id: str) -> int | None:
        return self._number(form_id, self._form_suffix)

    def device_ms(self, number: int) -> int:
        """The instant when the device wrote document `number`; reception and indexing follow within the same second."""
        return (self._block_start_s(number >> BLOCK_BITS) + self._offset_s(number)) * 1000

    def event_ms(self, number: int) -> int:
        """The instant when the server received document `number`."""
        return self.device_ms(number) + _SERVER_LAG_MS

    def indexed_ms(self, number: int) -> int:
        if self._reindexed_ms is not None:
            return self._reindexed_ms + (number >> BLOCK_BITS) * self._reindex_span_ms // self._blocks
        return self.device_ms(number) + _INDEX_LAG_MS

    def reindex(self, start_us: int, span_us: int) -> None:
        """Index everything again within `span_us` from `start_us` on; the documents of a block share a millisecond."""
        self._reindexed_ms, self._reindex_span_ms = start_us // 1000, span_us // 1000
        self._cases_of.clear()
        self._forms_of.clear()

    def numbers_between(self, clock: Callable[[int], int], low_ms: int | None, high_ms: int | None) -> range:
        """Numbers whose instant lies in [low_ms, high_ms]; `clock` is one of the three methods above."""
        everything = range(self.count)
        low = 0 if low_ms is None else bisect_left(everything, low_ms, key=clock)
        high = self.count if high_ms is None else bisect_left(everything, high_ms + 1, key=clock)
        return range(low, max(low, high))

    def render_cases(self, numbers: Sequence[int]) -> bytes:
        """JSON texts of the case objects of case v2, a comma before each. `numbers` lie in one block."""
        return self._filled(self._documents(self._cases_of, self._case_texts, numbers[0]), numbers)

    def render_forms(self, numbers: Sequence[int], root: str) -> bytes:
        """JSON texts of the form objects, a comma before each. `numbers` lie in one block."""
        known = self._forms_of.setdefault(root, {})
        if len(self._forms_of) > _ROOTS_KEPT:
            self._forms_of = {root: known}
        return self._filled(self._documents(known, self._form_texts, numbers[0], root), numbers)

    def form(self, number: int) -> FormRecord:
        body = msgspec.json.decode(self.render_forms([number], "")[1:])
        instants = {
            name: parse_instant(body.pop(name))[0] for name in ("received_on", "server_modified_on", "indexed_on")
        }
        for name in ("archived", "edited_on", "edited_by_user_id"):
            del body[name]
        return FormRecord(
            self.domain, body["id"], body["form"]["@xmlns"], body["app_id"],
            instants["received_on"], instants["server_modified_on"],
            instants["indexed_on"], body,
        )  # fmt: skip

    def case(self, number: int) -> CaseRecord:
        form = self.form(number)
        block = next(case_blocks(form.form))
        case = fold_case(None, block, form, parse_instant(block["@date_modified"])[0])
        return replace(case, indexed_us=self.indexed_ms(number) * 1000)

    def _number(self, doc_id: str, suffix: str) -> int | None:
        if (
            not doc_id.endswith(suffix)
            or not re.fullmatch(r"[0-9a-f]{8}", doc_id[:8])
            or len(doc_id) != 8 + len(suffix)
        ):
            return None
        number = int(doc_id[:8], 16)
        return number if number < self.count else None

    def _block_start_s(self, block: int) -> int:
        return _START_S + block * self._step_s

    def _offset_s(self, number: int) -> int:
        return (number & _BLOCK - 1) * self._span_s >> BLOCK_BITS

    def _documents(self, known: dict[int, list[bytes]], texts: list[str], number: int, root: str = "") -> list[bytes]:
        """The block of `number` with marks for the values in which its variants differ."""
        variant = number >> BLOCK_BITS & (_VARIANT >> BLOCK_BITS) - 1
        documents = known.get(variant)
        if documents is None:
            numbers = range(variant << BLOCK_BITS, variant + 1 << BLOCK_BITS)
            known[variant] = documents = [
                ("," + texts[n % PERIOD] % (self._values(n) | {"root": root})).encode() for n in numbers
            ]
        return documents

    def _filled(self, documents: list[bytes], numbers: Sequence[int]) -> bytes:
        first = numbers[0]
        start = iso(self._block_start_s(first >> BLOCK_BITS) * 1_000_000).encode()
        text = b"".join(documents if len(numbers) == _BLOCK else [documents[n & _BLOCK - 1] for n in numbers])
        text = text.replace(_HIGH.encode(), b"%05x" % (first >> _VARIANT_BITS))
        text = text.replace(_PREFIX.encode(), start[: self._cut]).replace(_DATE.encode(), start[:10])
        if self._reindexed_ms is not None:
            text = text.replace(_INDEXED.encode(), iso(self.indexed_ms(first) * 1000).encode())
        return text

    def _values(self, number: int) -> dict[str, Any]:
        """The template values of document `number` of the first variants, with marks where later variants differ."""
        family = number >> 2
        mixed = (family * 2654435761 + number) & 0xFFFFFFFF
        second = self._second(self._offset_s(number))
        values: dict[str, Any] = {
            "case_id": f"{_HIGH}{number:03x}{self._case_suffix}",
            "form_id": f"{_HIGH}{number:03x}{self._form_suffix}",
            "second": second,
            "start": self._second(max(0, self._offset_s(number) - _FILLING_S)),
            "indexed": f"{second}.{_INDEX_LAG_MS}000Z" if self._reindexed_ms is None else _INDEXED,
            "date": _DATE,
            "small": 1 + mixed % 9,
        }
        _FILLERS[number & 3](values, family, mixed)
        if number & 3:
            values["parent_id"] = f"{_HIGH}{number - 1 if number & 3 < 3 else number - 2:03x}{self._case_suffix}"
        return values

    def _second(self, offset_s: int) -> str:
        """An instant of the block, cut to the second."""
        return _PREFIX + iso(offset_s * 1_000_000)[self._cut : 19]

    def _templates(self, number: int, users: Sequence[Json]) -> tuple[str, str]:
        """Form and case templates for documents whose number is congruent to `number`."""
        kind, user = number % len(KINDS), users[number // len(KINDS) % WORKERS]
        form_spec = FORMS[kind]
        event = Event(_mark("case_id"), user["id"], _DEVICE_US, self.owners[number // len(KINDS) % WORKERS])
        body = form_body(
            form_spec, self._app, _registration(kind, event), self.domain, _mark("form_id"), _DEVICE_US, user
        )
        form = FormRecord(
            self.domain, _mark("form_id"), form_spec.xmlns, self._app.app_id, _SERVER_US, _SERVER_US, _INDEXED_US, body
        )  # fmt: skip
        case = fold_case(None, next(case_blocks(form.form)), form, _DEVICE_US)
        return _template(form.api(_mark("root"))), _template(replace(case, indexed_us=_INDEXED_US).api())


def _registration(kind: int, event: Event) -> Json:
    m = _mark
    if kind == 0:
        return registrations.household(
            event, f"{m('man')} {m('family')}", m("village"), f"W-{m('small')}", f"+917{m('digits')}",
            "tap well", "yes", m("small"), m("gps"),
            f"{m('village')}-{m('code')}",
        )  # fmt: skip
    if kind == 1:
        return registrations.woman(
            event, m("parent_id"), m("woman"), m("age"), f"{m('birth')}-04-0{m('small')}", "hi", f"+918{m('digits')}"
        )
    if kind == 2:
        return registrations.pregnancy(
            event,
            m("parent_id"),
            m("woman"),
            m("date"),
            m("date"),
            m("small"),
            m("small"),
            "none",
            f"{m('height')}.{m('small')}",
            "o",
        )
    return registrations.child(event, m("parent_id"), m("child"), m("date"), "f", m("weight"))


def _template(document: Json) -> str:
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).replace("%", "%%")
    text = _MARK.sub(lambda match: f"%({match[1]})s", text)
    stamps = {
        _DEVICE_US: "%(second)s.000000Z",
        _DEVICE_US - _FILLING_S * 1_000_000: "%(start)s.000000Z",
        _SERVER_US: f"%(second)s.{_SERVER_LAG_MS}000Z",
        _INDEXED_US: "%(indexed)s",
    }
    for instant_us, stamp in stamps.items():
        text = text.replace(iso(instant_us), stamp)
    return text


def _fill_household(values: dict[str, Any], family: int, mixed: int) -> None:
    values["man"] = MEN[mixed % len(MEN)]
    values["village"] = VILLAGES[mixed % len(VILLAGES)][0]
    values["family"] = family
    values["code"] = f"{_HIGH}{family:03x}"
    values["digits"] = 10000 + mixed % 89999
    values["gps"] = f"23.{mixed % 9999999:07d} 85.{family % 9999999:07d} 612.0 8.5"


def _fill_mother(values: dict[str, Any], _family: int, mixed: int) -> None:
    values["woman"] = WOMEN[mixed % len(WOMEN)]
    values["age"] = 17 + mixed % 25
    values["birth"] = 2007 - mixed % 25
    values["digits"] = 10000 + mixed % 89999


def _fill_pregnancy(values: dict[str, Any], _family: int, mixed: int) -> None:
    values["woman"] = WOMEN[mixed % len(WOMEN)]
    values["height"] = 145 + mixed % 25


def _fill_child(values: dict[str, Any], _family: int, mixed: int) -> None:
    values["child"] = CHILDREN[mixed % len(CHILDREN)]
    values["weight"] = 1900 + mixed % 2100


_FILLERS = (_fill_household, _fill_mother, _fill_pregnancy, _fill_child)
