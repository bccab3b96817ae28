"""The benchmark of tables and models: the cost of a whole build, of an update, and of a run without changes.

Rows are written to the raw tables as a load does, without a server. A change touches every hundredth row, and so every table.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import msgspec
import psycopg

from benchmarks.ground import SEED, Ground, Tenant, Worker
from benchmarks.load_job import pipeline_with
from benchmarks.loading import Scale, WrongRows
from benchmarks.results import Claim, Measure, Result, ratio
from benchmarks.transform_job import EVERYTHING
from explorer.extract.records.reader import Losses, RecordReader, Row
from explorer.load.copy.writer import write_table
from explorer.load.raw.contents import RawSchema
from explorer.load.raw.load_input import ExtractEnd, LoadInput
from explorer.load.raw.rejects import RejectFile
from explorer.load.raw.rows import PackedRow, RowFormat
from explorer.load.raw.table import RawTable
from explorer.providers.commcare.structure import CaseType, Form, Option, Question, Structure
from explorer.registry import Source

Step = Callable[[str], Callable[[int], None]]
Record = dict[str, Any]
CHANGED_EVERY = 100
_PAGE = 1000
_TYPES = ("Text", "Int", "Date", "Select", "Double", "MSelect")
_PROPERTIES, _QUESTIONS, _REPEATED_QUESTIONS, _REPETITIONS = 20, 24, 4, 2
_OPTIONS = tuple(Option(value, value.capitalize()) for value in ("yes", "no", "unknown"))
_BEGIN = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Size:
    """`rows`: cases and forms together, two of five are cases. Every third form has a repeat group."""

    case_types: int
    forms: int
    rows: int


SIZES = {"tiny": Size(2, 3, 500), "small": Size(20, 30, 40_000), "full": Size(40, 60, 200_000)}
_TINY = Size(2, 3, 100)


def transforms(ground: Ground, scale: Scale, step: Step) -> Result:
    """Building a tenant's tables and models, against updating them after every hundredth row changed, and after nothing did."""
    result = Result("transforms")
    size = SIZES[scale.name]
    first, whole, tables, change, idle = _measures(
        result, "first build", "whole build", "whole build, tables alone", "after 1 % changed", "after nothing changed"
    )
    with _world(ground, size) as world, world.worker() as worker:
        step(f"{size.rows:,} rows, {size.case_types} case types, {size.forms} forms: first build")
        first.samples.append(_built(worker.go(), size)["wall_s"])
        for number in range(scale.rounds):
            step("whole build")
            built = _built(worker.go(EVERYTHING), size)
            changed = world.change(number)
            step(f"{changed:,} rows changed")
            updated = _built(worker.go(), size)
            step("nothing changed")
            rest = worker.go()
            if rest["changed"]:
                raise WrongRows(f"{rest['changed']} tables and models were touched although nothing changed")
            tables.samples.append(built["tables_s"])
            for measure, done in ((whole, built), (change, updated), (idle, rest)):
                measure.samples.append(done["wall_s"])
    result.facts |= {
        "rows": size.rows, "changed": changed, "tables": built["tables"], "models": built["models"],
        "tables_applied": updated["applied"], "worker_cpu_s": {"whole": built["cpu_s"], "changed": updated["cpu_s"]},
        "slowest_s": {"whole": built["slowest"], "changed": updated["slowest"]},
    }  # fmt: skip
    result.claims.append(Claim("after 1 % changed, of a whole build", ratio(change, whole), 0.2, "at most"))
    _measure_tiny(ground, scale, step, result)
    return result


def _measure_tiny(ground: Ground, scale: Scale, step: Step, result: Result) -> None:
    """Measure the fixed cost, on a tenant with almost nothing to build."""
    whole, changed = (Measure(f"a tiny tenant, {what}, CPU (s)") for what in ("whole build", "after 1 % changed"))
    result.measures += [whole, changed]
    step("a tiny tenant")
    with _world(ground, _TINY) as world, world.worker() as worker:
        _built(worker.go(), _TINY)
        for number in range(scale.rounds):
            whole.samples.append(_built(worker.go(EVERYTHING), _TINY)["cpu_s"])
            world.change(number)
            changed.samples.append(_built(worker.go(), _TINY)["cpu_s"])


def _measures(result: Result, *names: str) -> list[Measure]:
    result.measures += [Measure(f"{name} (s)") for name in names]
    return result.measures


def _built(done: dict[str, Any], size: Size) -> dict[str, Any]:
    """`done`, after a check that all tables were built and have all rows."""
    rows = done["rows"]
    found = sum(rows.get(name, 0) for name in ("cases", "forms"))
    if done["failed"] or found != size.rows:
        raise WrongRows(f"{found:,} of {size.rows:,} rows were built; failed: {', '.join(done['failed']) or 'none'}")
    return done


@contextmanager
def _world(ground: Ground, size: Size) -> Iterator["_World"]:
    with ground.tenant() as tenant:
        world = _World(ground, size, tenant)
        world.fill()
        yield world


class _World:
    """A tenant with filled raw tables."""

    def __init__(self, ground: Ground, size: Size, tenant: Tenant) -> None:
        self._ground, self._size, self._tenant = ground, size, tenant
        self._sources = {source.name: source for source in pipeline_with({}).sources}
        self._structure = _structure(size)
        self._cases = size.rows * 2 // 5

    def fill(self) -> None:
        """Make the raw tables and write all cases and submissions."""
        with self._connect() as connection:
            tables = [RawTable.of_source(source) for source in self._sources.values()]
            RawSchema(self._tenant.names).open(connection, tables, "first")
        self._load("first", None)
        self._ground.settle()

    def change(self, number: int) -> int:
        """Change every hundredth row of each table as a load does, other rows for each `number`; returns how many."""
        self._ground.vacuum()
        changed = self._load(f"change {number}", number)
        self._ground.settle()
        return changed

    @contextmanager
    def worker(self) -> Iterator[Worker]:
        """Start a warm process that transforms the tenant."""
        with self._ground.transformer(self._tenant, self._structure.to_dict()) as worker:
            yield worker

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        names = self._tenant.names
        return self._ground.connections.tenant(names.rw, self._tenant.password).connect(autocommit=True)

    def _load(self, run_id: str, remainder: int | None) -> int:
        size, forms = self._size, self._size.rows - self._cases
        chosen = [
            [n for n in range(rows) if remainder is None or n // kinds % CHANGED_EVERY == remainder]
            for rows, kinds in ((self._cases, size.case_types), (forms, size.forms))
        ]
        cases = (_case(run_id, number, size.case_types) for number in chosen[0])
        submissions = (_submission(run_id, number, size) for number in chosen[1])
        return self._load_records("cases", run_id, cases) + self._load_records("forms", run_id, submissions)

    def _load_records(self, name: str, run_id: str, records: Iterator[Record]) -> int:
        source = self._sources[name]
        table, schema = RawTable.of_source(source), RawSchema(self._tenant.names)
        with self._connect() as connection:
            contents = schema.open(connection, [table], run_id)
            is_first = run_id == "first"
            load_input = LoadInput(
                _chunks(source, run_id, contents.moment, records),
                lambda: ExtractEnd(None, whole=is_first),
                is_first,
                RejectFile(self._ground.files, run_id, contents.moment),
                run_id,
                contents.moment,
            )
            counts = write_table(schema, connection, table, load_input, contents.states.get(source.name))
        return counts.new + counts.changed


def _chunks(source: Source, run_id: str, moment: datetime, records: Iterator[Record]) -> Iterator[Sequence[PackedRow]]:
    reader, form = RecordReader(source, {}, Losses()), RowFormat(source.keys, source.primary_key, run_id, moment)
    while page := list(islice(records, _PAGE)):
        read = [reader.read(msgspec.json.encode(record)) for record in page]
        rows = [row for row in read if isinstance(row, Row)]
        if len(rows) < len(read):
            raise WrongRows(f"{len(read) - len(rows)} made records were set aside")
        yield form.pack(rows, 1)


def _structure(size: Size) -> Structure:
    case_types = tuple(
        CaseType(_case_type(number), tuple(f"property_{i}" for i in range(_PROPERTIES)), ("a",))
        for number in range(size.case_types)
    )
    return Structure(apps=(), case_types=case_types, forms=tuple(_form(number) for number in range(size.forms)))


def _form(number: int) -> Form:
    questions = [_question((f"group_{i % 3}", f"question_{i}"), i) for i in range(_QUESTIONS)]
    if _has_repeat(number):
        questions.append(Question(("visit",), "Visit", "Repeat", is_group=True))
        questions += [
            msgspec.structs.replace(_question(("visit", f"again_{i}"), i), repeat=("visit",))
            for i in range(_REPEATED_QUESTIONS)
        ]
    title = f"Form {number}"
    return Form(_xmlns(number), {"en": title}, title, "a", "App", "Module", None, tuple(questions))


def _question(path: tuple[str, ...], number: int) -> Question:
    kind = _TYPES[number % len(_TYPES)]
    options = _OPTIONS if kind in ("Select", "MSelect") else ()
    return Question(path, f"What is the answer to question {number}?", kind, options=options)


def _case(run_id: str, number: int, case_types: int) -> Record:
    values = random.Random(f"{SEED} {run_id} case {number}")  # noqa: S311
    moment = _moment(number)
    return {
        "case_id": _id("case", number), "case_type": _case_type(number % case_types), "case_name": f"Case {number}",
        "external_id": None, "owner_id": "owner", "date_opened": moment, "last_modified": moment,
        "server_last_modified": moment, "indexed_on": moment, "closed": False, "date_closed": None,
        "properties": {f"property_{i}": _answer(values, i) for i in range(_PROPERTIES)},
        "indices": {},
    }  # fmt: skip


def _submission(run_id: str, number: int, size: Size) -> Record:
    values = random.Random(f"{SEED} {run_id} form {number}")  # noqa: S311
    kind, moment = number % size.forms, _moment(number)
    case = {"@case_id": _id("case", number % (size.rows * 2 // 5)), "update": {"property_0": _answer(values, 0)}}
    form: Record = {"#type": "data", "@xmlns": _xmlns(kind), "@name": f"Form {kind}", "case": case}
    for i in range(_QUESTIONS):
        form.setdefault(f"group_{i % 3}", {})[f"question_{i}"] = _answer(values, i)
    if _has_repeat(kind):
        form["visit"] = [
            {f"again_{i}": _answer(values, i) for i in range(_REPEATED_QUESTIONS)} for _ in range(_REPETITIONS)
        ]
    return {
        "id": _id("form", number), "app_id": "a", "build_id": "b", "form": form, "archived": False,
        "received_on": moment, "server_modified_on": moment, "indexed_on": moment, "attachments": {},
        "metadata": {"userID": "u", "username": "user", "timeStart": moment, "timeEnd": moment, "deviceID": "device"},
    }  # fmt: skip


def _answer(values: random.Random, number: int) -> str:
    return _ANSWERS[number % len(_TYPES)][values.getrandbits(8)]


def _answers(kind: str) -> list[str]:
    """256 answers to a question of that type."""
    values = random.Random(f"{SEED} {kind}")  # noqa: S311
    made: Callable[[], str] = {
        "Text": lambda: f"some words that somebody wrote {values.randrange(10_000)}",
        "Int": lambda: str(values.randrange(100)),
        "Date": lambda: (_BEGIN + timedelta(days=values.randrange(700))).date().isoformat(),
        "Select": lambda: values.choice(_OPTIONS).value,
        "Double": lambda: f"{values.random() * 50:.2f}",
        "MSelect": lambda: " ".join(option.value for option in values.sample(_OPTIONS, 2)),
    }[kind]
    return [made() for _ in range(256)]


_ANSWERS = [_answers(kind) for kind in _TYPES]


def _has_repeat(number: int) -> bool:
    return number % 3 == 0


def _case_type(number: int) -> str:
    return f"type_{number}"


def _xmlns(number: int) -> str:
    return f"http://openrosa.org/formdesigner/{number}"


def _id(kind: str, number: int) -> str:
    return f"{kind}-{number * 2654435761 % 2**32:08x}-0000-4000-8000-{number:012}"


def _moment(number: int) -> str:
    return (_BEGIN + timedelta(minutes=number)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
