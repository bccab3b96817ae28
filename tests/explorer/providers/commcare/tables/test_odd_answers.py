"""No answer of any shape is lost: it is in a column of its submission's rows, or named as a value that does not fit."""

import json
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from explorer.providers.commcare.structure import Form, Question, Structure
from explorer.tables.values import TableSpec
from tests.explorer.workshop import RAW_TABLES, Workshop

# Places of which another submission may have another shape; `case` and `meta` are questions too, where they are no block.
KEYS = ("q", "x", "case", "meta", "a/b", "item", "0")
DECLARED = ("Text", "Int", "Date", "MSelect", "Geopoint", "Group", "Repeat", "SaveToCase", "DataBindOnly", None)
TOKEN = "token"


def shapes() -> st.SearchStrategy[Any]:
    """JSON as an answer may be, with `TOKEN` in the place of texts that are all different."""
    leaves = st.sampled_from([TOKEN, TOKEN, "", None, 1, 2.5, True, {}, []])
    texts = st.sampled_from([None, None, "", TOKEN, 1])
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.builds(_element, st.dictionaries(st.sampled_from(KEYS), inner, max_size=3), texts),
        ),
        max_leaves=6,
    )


def _element(children: dict[str, Any], text: Any) -> dict[str, Any]:
    """An element as the API writes it: its own text, which is never an object, beside what lies in it."""
    return children if text is None else {**children, "#text": text}


@st.composite
def forms(draw: st.DrawFn) -> tuple[str | None, str, list[Any]]:
    """The type that one question is declared with, its key, and what several submissions have there."""
    return (
        draw(st.sampled_from(DECLARED)),
        draw(st.sampled_from(KEYS)),
        draw(st.lists(shapes(), min_size=2, max_size=3)),
    )


# One build takes many forms; making a failure smaller would take many builds.
@settings(
    deadline=None,
    max_examples=2,
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.large_base_example, HealthCheck.too_slow],
)
@given(drawn=st.lists(forms(), min_size=30, max_size=30))
def test_every_answer_is_in_a_column_or_named(make_workshop: Callable[[], Workshop], drawn: list[Any]) -> None:
    # The first that is tried is the least.
    assume(len(set(map(repr, drawn))) > len(drawn) // 2)
    workshop = make_workshop()
    workshop.make_raw(*RAW_TABLES)
    described, sent, numbers = [], {}, count(1)
    for number, (kind, key, answers) in enumerate(drawn):
        xmlns = f"http://odd/{number:02d}"
        if "/" not in key:
            questions = (Question((key,), "Label", kind, is_group=kind in ("Group", "Repeat")),)
            described.append(Form(xmlns, {}, f"F{number:02d}", "a", "A", "M", None, questions))
        for position, answer in enumerate(answers):
            form_id = f"f{number:02d}x{position}"
            # Not `meta` at the root, which is no answer.
            sent[form_id] = (xmlns, {"g" if key == "meta" else key: _numbered(answer, numbers)})
            workshop.add_form(form_id, *sent[form_id])
    generated = [t for t in workshop.build(Structure((), (), tuple(described))).tables.values() if t.kind != "mart"]
    rows = {table.name: _rows(workshop, table) for table in generated}
    for form_id, (xmlns, form) in sent.items():
        tables = [table for table in generated if table.source.split(" ")[0] == xmlns]
        cells = "\n".join(json.dumps(row, ensure_ascii=False) for t in tables for row in rows[t.name].get(form_id, ()))
        unfit = {
            column.path
            for table in tables
            for row in rows[table.name].get(form_id, ())
            for column in table.columns
            if column.name in (row.get("unfit_columns") or ())
        }
        for path, leaf in _leaves(form):
            # What lies in a list within a list is part of the text of the question that the outer one stands for.
            named = any(path[: len(of)] == of for of in unfit)
            assert f"{leaf}" in cells or named, (form_id, form, path, cells)
        for table in (table for table in tables if table.kind == "repeat"):
            # The answers of a repetition may all lie in repetitions within it.
            has_inner = any(
                each.source.startswith(f"{table.source}/") and form_id in rows[each.name]
                for each in tables
                if each.kind == "repeat"
            )
            for row in rows[table.name].get(form_id, ()):
                is_answered = any(row[column.name] is not None for column in table.columns if column.path)
                assert is_answered or has_inner or _has_blanks(form), row


def _numbered(answer: Any, numbers: Iterator[int]) -> Any:
    """With every text and number another one, to be told apart from all others."""
    if isinstance(answer, dict):
        return {key: _numbered(value, numbers) for key, value in answer.items()}
    if isinstance(answer, list):
        return [_numbered(value, numbers) for value in answer]
    if answer == TOKEN:
        return f"v{next(numbers)}w"
    return (
        1_000_000 + next(numbers)
        if type(answer) is int
        else 2_000_000.5 + next(numbers)
        if type(answer) is float
        else answer
    )


def _leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, path if key == "#text" else (*path, key))
    elif isinstance(node, list):
        for value in node:
            yield from _leaves(value, path)
    elif node not in ("", None):
        yield path, "true" if node is True else node


def _has_blanks(node: Any) -> bool:
    """Whether a list in it has an object without any answer, which is a repetition all the same."""
    if isinstance(node, dict):
        return any(map(_has_blanks, node.values()))
    if isinstance(node, list):
        return any((isinstance(item, dict) and not list(_leaves(item))) or _has_blanks(item) for item in node)
    return False


def _rows(workshop: Workshop, table: TableSpec) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for form_id, row in workshop.read(f"select form_id, to_jsonb(t) from {table.name} t"):
        found.setdefault(form_id, []).append(row)
    return found
