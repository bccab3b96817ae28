"""Which columns does an answer get: its value, the parts of a place, the URL of a file, a column per option?"""

from collections.abc import Iterator

from msgspec.structs import replace

from explorer.providers.commcare.structure import Form, Question
from explorer.providers.commcare.tables.choices import (
    MAX_OPTION_COLUMNS,
    OPTIONS_UNFIT,
    option_column,
    unfit_options,
    watched,
)
from explorer.providers.commcare.tables.descriptions import MAX_DESCRIPTION, Applications, about_question
from explorer.providers.commcare.tables.paths import Path, key_of
from explorer.providers.commcare.tables.profile import Profile
from explorer.providers.commcare.tables.questions import declared_kind, is_asked, recall
from explorer.providers.commcare.tables.sql import answer_text
from explorer.tables.casts import typed
from explorer.tables.column_types import Kind
from explorer.tables.identifiers import identifier
from explorer.tables.memory import ColumnMemory, TableMemory
from explorer.tables.naming import DERIVED
from explorer.tables.parts import Field
from explorer.tables.value_counts import ValueCounts, likeness_facts
from explorer.tables.values import ColumnSpec

_GEOPOINT = (("latitude", "degrees"), ("longitude", "degrees"), ("altitude", "metres"), ("accuracy", "metres"))
_FILES = frozenset({"Image", "MicroImage", "Audio", "Video", "Signature", "Document"})


def answer_fields(
    form: Form, repeat: Path | None, table: str, profile: Profile, memory: TableMemory, now: Applications
) -> Iterator[Field]:
    seen = profile.forms.get(form.xmlns)
    containers = {question.path[:length] for question in form.questions for length in range(1, len(question.path))}
    for question in form.questions:
        if question.repeat == repeat and is_asked(question):
            key = key_of(question.path)
            values = (seen.answers.get(key) if seen else None) or ValueCounts()
            known = memory.columns.get(key, ColumnMemory())
            kind = profile.settle(table, memory, key, declared_kind(question, known), values)
            known, since = memory.columns[key], now.since(form)
            is_current = now.asks(form, question.path)
            known.learn(question, since if is_current else "")
            known.left = "" if is_current or not known.types else known.left or since
            may_be_list = question.path in containers or (seen is not None and key in seen.lists)
            asked = recall(question, known)
            yield _answer_field(key, asked, kind, repeat, known, values, memory, may_be_list=may_be_list)


def _answer_field(
    key: str,
    question: Question,
    kind: Kind,
    repeat: Path | None,
    known: ColumnMemory,
    values: ValueCounts,
    memory: TableMemory,
    *,
    may_be_list: bool,
) -> Field:
    """`question`: the union of its definitions; `known`: its remembered types; `values`: the values seen; `may_be_list`: whether
    the answer may be a list."""
    path, document = question.path[len(repeat or ()) :], "repetition" if repeat else "form"
    is_multiple = kind == "choices" or "MSelect" in known.types
    column = ColumnSpec(
        name="",
        type="text",
        description=about_question(question, known)[:MAX_DESCRIPTION],
        path=question.path,
        label=question.label or None,
        translations=dict(question.translations),
        options=question.options,
        question_type=question.type,
        text=answer_text(document, path, may_be_list=may_be_list, joined=is_multiple),
    )
    unfit = unfit_options(question, values)
    columns: list[tuple[str, str, ColumnSpec]] = []
    is_place = kind == "geopoint" and key not in memory.names
    if not is_place:
        own = replace(typed(column, kind), values=unfit or likeness_facts(kind, values))
        if unfit:
            own = replace(own, description=f"{OPTIONS_UNFIT} {column.description}"[:MAX_DESCRIPTION])
        columns.append((key, identifier(*path), own if unfit else watched(own, known)))
    if kind == "geopoint" or "Geopoint" in known.types:
        columns += _places(key, path, column, memory, is_alone=is_place)
    if file_type := next((known_type for known_type in reversed(known.types) if known_type in _FILES), None):
        url = _url_of(replace(column, question_type=file_type))
        columns.append((f"{key}{DERIVED}url", f"{identifier(*path, max_bytes=59)}_url", url))
    if "MSelect" in known.types:
        is_short = len(question.options) - len(known.removed) <= MAX_OPTION_COLUMNS
        for option in question.options:
            option_key = f"{key}{DERIVED}={option.value}"
            is_offered = is_short and option.value not in known.removed
            # If the options do not match the data, a column of an option that nobody chose would always be false.
            if option_key in memory.names or (is_offered and (not unfit or values.answers.get(option.value))):
                chosen = option_column(column, option, kind, known.removed.get(option.value, ""))
                columns.append((option_key, identifier(*path, option.value), chosen))
    return Field(key, tuple(columns))


def _place_columns(key: str, path: Path, column: ColumnSpec) -> Iterator[tuple[str, str, ColumnSpec]]:
    """Four numbers of one answer; NULL where it is no place. Only the first column reports it as unfit."""
    lost = r"{column} is null and {text} ~ '[^ \t\n\r\f\v]'"
    for position, (part, unit) in enumerate(_GEOPOINT, start=1):
        yield (
            f"{key}/{part}",
            f"{identifier(*path, max_bytes=50)}_{part}",
            replace(
                column,
                type="numeric",
                description=f"{part.capitalize()} in {unit}. {column.description}"[:MAX_DESCRIPTION],
                cast=f"casts.place_part({{text}}, {position})",
                unfit=lost if position == 1 else "",
            ),
        )


def _places(
    key: str, path: Path, column: ColumnSpec, memory: TableMemory, *, is_alone: bool
) -> Iterator[tuple[str, str, ColumnSpec]]:
    """The columns of a place; `is_alone`: its text has no column of its own, so that one of these reports unfit values."""
    for place_key, wish, part in _place_columns(key, path, replace(column, question_type="Geopoint")):
        derived = place_key.replace(f"{key}/", f"{key}{DERIVED}", 1)
        # An earlier key could also be the key of a question.
        if memory.names.get(place_key, ("",))[0] == wish:
            memory.names[derived] = memory.names.pop(place_key)
        yield derived, wish, part if is_alone else replace(part, unfit="")


def _url_of(column: ColumnSpec) -> ColumnSpec:
    return replace(
        column,
        description=f"Where the server keeps the file; NULL when it was not submitted. {column.description}"[
            :MAX_DESCRIPTION
        ],
        reads_attachments=True,
        text="",
        value="_attachments -> {of} ->> 'url'",
    )
