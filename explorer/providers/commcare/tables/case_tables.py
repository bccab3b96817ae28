"""The tables of case types: one per type, a row per case, a column per property.

A property's columns come from the union of all definitions of its questions. Blank values are NULL.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from explorer.contract.bookkeeping.lineage import Origin
from explorer.providers.commcare.structure import Form, Question, Structure
from explorer.providers.commcare.tables.choices import unfit_options, watched
from explorer.providers.commcare.tables.descriptions import MAX_DESCRIPTION, Applications, about_question, one_line
from explorer.providers.commcare.tables.fixed.cases import CASES
from explorer.providers.commcare.tables.fixed.owners import OWNERS
from explorer.providers.commcare.tables.paths import key_of
from explorer.providers.commcare.tables.profile import Profile
from explorer.providers.commcare.tables.questions import KINDS, kind_of_property, questions_of_properties, recall
from explorer.providers.commcare.tables.scan import PROPERTIES_OF_HEAD
from explorer.providers.commcare.tables.specs import table_spec
from explorer.providers.commcare.tables.sql import case_rows
from explorer.tables.casts import typed
from explorer.tables.column_types import Kind
from explorer.tables.identifiers import identifier
from explorer.tables.memory import ColumnMemory, TableMemory
from explorer.tables.naming import DERIVED, TABLE_MAX_BYTES, table_names
from explorer.tables.parts import Field, continues, in_parts
from explorer.tables.sql_text import literal, quoted, shown, text_array
from explorer.tables.value_counts import ValueCounts, likeness_facts
from explorer.tables.values import ColumnSpec, Parent, TableSpec

_CASE_KEYS = {
    "case_id": ("text", "Identifier of the case; key of this table."),
    "case_name": ("text", "Name of the case."),
    "external_id": ("text", "Identifier of the case in another system."),
    "owner_id": ("text", "Owner: a mobile worker, a case-sharing group or a location."),
    "date_opened": ("timestamptz", "When the case was opened, by the clock of the device."),
    "last_modified": ("timestamptz", "When the case was last changed, by the clock of the device."),
    "server_last_modified": ("timestamptz", "When the server last changed the case."),
    "closed": ("boolean", "Whether the case is closed."),
    "date_closed": ("timestamptz", "When the case was closed; NULL while it is open."),
}
_OF_OWNER = tuple(
    column for column in CASES.columns if column.name in ("owner_kind", "owner_name", "owner_location_path")
)


def case_tables(
    structure: Structure, profile: Profile, taken: Collection[str], now: Applications
) -> Iterator[TableSpec]:
    properties: dict[str, set[str]] = {case_type.name: set(case_type.properties) for case_type in structure.case_types}
    for name, seen in profile.case_types.items():
        properties.setdefault(name, set()).update(seen.properties)
    properties.pop("", None)
    apps = {case_type.name: case_type.app_ids for case_type in structure.case_types}
    asked = questions_of_properties(profile.forms_known.values())
    memories = {name: profile.memory("case_type", name) for name in sorted(properties)}
    wishes = [(name, identifier(name, prefix="case_", max_bytes=TABLE_MAX_BYTES)) for name in memories]
    names = table_names(wishes, memories, taken, profile.used_names(memories.values()), prefix="case_")
    used = {*taken, *names.values()}
    for name, table in names.items():
        origin = (
            ""
            if name in apps
            else " No application describes this case type; its properties are those seen in the data."
        )
        about = f"One row per case of type {name}, open or closed.{origin}"
        of_data = profile.case_types.get(name)
        given = {key.removeprefix(DERIVED) for key in memories[name].columns if not key.startswith("@")}
        own = (properties[name] | given) - (
            PROPERTIES_OF_HEAD.keys() - (of_data.differing if of_data else set()) - given
        )
        fields = [
            *_index_fields(name, profile),
            *(
                _property_field((name, part), table, profile, memories[name], asked.get(name, {}), now)
                for part in sorted(own)
            ),
        ]
        keys = [ColumnSpec(key, kind, text) for key, (kind, text) in _CASE_KEYS.items()]
        keys += _owner_columns(memories[name])
        for part, part_name, columns in in_parts(table, keys, 1, fields, memories[name], used, "cases.properties"):
            pointing = [
                column.name for column in columns if column.document and column.path and column.path[1] == "case_id"
            ]
            yield table_spec(
                part_name,
                "case_type",
                name,
                about if part == 1 else continues(table, "case_id"),
                columns,
                case_rows(name),
                app_ids=apps.get(name, ()),
                applications=now,
                part=part,
                parent=Parent(tuple(pointing), "cases", "case_id") if pointing else None,
                inputs=OWNERS.inputs if part == 1 else (),
            )


def _owner_columns(memory: TableMemory) -> Iterator[ColumnSpec]:
    """Who owns the case. A property that had such a name before these columns came keeps it: then they are `case_owner_name` and
    its like."""
    given = {name for _, name in memory.names.values()}
    for column in _OF_OWNER:
        name = column.name
        while name in given:
            name = f"case_{name}"
        origin = Origin("cases", column.name)
        text = "" if name == column.name else quoted(column.name)
        yield ColumnSpec(name, column.type, column.description, text=text, origins=(origin,))


def _index_fields(case_type: str, profile: Profile) -> Iterator[Field]:
    seen = profile.case_types.get(case_type)
    for index in sorted(seen.indices) if seen else ():
        columns = []
        for part, about in (("case_id", "Identifier"), ("case_type", "Type")):
            column = ColumnSpec(
                "",
                "text",
                f"{about} of the case that index {shown(index)} points to.",
                (index, part),
                label=index,
                document="indices",
                text=f"nullif(indices #>> {text_array((index, part))}, '')",
            )
            columns.append((f"@{index}/{part}", f"{identifier(index, max_bytes=50)}_{part}", column))
        yield Field(f"@{index}", tuple(columns))


def _property_field(
    property_of: tuple[str, str],
    table: str,
    profile: Profile,
    memory: TableMemory,
    asked: Mapping[str, tuple[Kind | None, Question, Form]],
    now: Applications,
) -> Field:
    """`property_of`: case type and name of the property; `asked`: questions by the property of the same name."""
    case_type, name = property_of
    # Keys with an @ belong to indices.
    key = f"{DERIVED}{name}" if name.startswith("@") else name
    # If no form of this case type asks it any more, the remembered declaration still holds.
    types = memory.columns.get(key, ColumnMemory()).types
    once = kind_of_property(KINDS.get(types[-1], "text")) if types else None
    declared, question, form = asked.get(name, (once, None, None))
    kept = profile.case_types[case_type].properties.get(name) if case_type in profile.case_types else None
    seen = kept or ValueCounts()
    kind = profile.settle(table, memory, key, declared, seen)
    known = memory.columns[key]
    about, unfit = f"Case property {shown(name)}.", dict[str, Any]()
    if name in PROPERTIES_OF_HEAD:
        about += f" It differs from {PROPERTIES_OF_HEAD[name]}, the case's own, in some cases."
    if question is not None and form is not None:
        known.learn(question, now.since(form))
        question = recall(question, known)
        about += f" Asked by the question of that name in {one_line(form.title)}: {about_question(question, known)}"
        answers = profile.forms[form.xmlns].answers if form.xmlns in profile.forms else {}
        unfit = unfit_options(question, answers.get(key_of(question.path), ValueCounts()))
    column = ColumnSpec(
        name="",
        type="text",
        description=about[:MAX_DESCRIPTION],
        path=(name,),
        label=known.label or name,
        translations=dict(known.translations),
        options=tuple(known.options),
        question_type=known.types[-1] if known.types else None,
        text=f"nullif(unpacked ->> {literal(name)}, '')",
        values=unfit or likeness_facts(kind, seen),
    )
    wish = f"{name}_property" if name in PROPERTIES_OF_HEAD else identifier(name)
    own = typed(column, kind)
    # An array may be cut wrongly where the value is no choices: then it is named.
    return Field(key, ((key, wish, watched(own, known) if kind == "choices" and not unfit else own),))
