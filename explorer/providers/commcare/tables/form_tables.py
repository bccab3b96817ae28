"""The tables of forms and repeat groups: a row per submission or repetition, a column per question.

A question's columns come from the union of all its definitions. Blank answers are NULL.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from explorer.contract.bookkeeping.lineage import Origin
from explorer.providers.commcare.structure import Form
from explorer.providers.commcare.tables.answers import answer_fields
from explorer.providers.commcare.tables.block_cases import case_columns
from explorer.providers.commcare.tables.descriptions import Applications, form_title, formerly
from explorer.providers.commcare.tables.paths import Path, key_of, repeat_source
from explorer.providers.commcare.tables.profile import Profile
from explorer.providers.commcare.tables.questions import repeats_of
from explorer.providers.commcare.tables.specs import table_spec
from explorer.providers.commcare.tables.sql import form_rows, repeat_rows
from explorer.tables.identifiers import identifier, short_hash, unique_identifiers
from explorer.tables.memory import TableMemory
from explorer.tables.naming import TABLE_MAX_BYTES, existing_names, table_names
from explorer.tables.parts import continues, in_parts
from explorer.tables.sql_text import shown
from explorer.tables.values import ColumnSpec, Parent, TableSpec

_FORM_KEYS = {
    "form_id": ("text", "Identifier of the submission."),
    "app_id": ("text", "Application of the form."),
    "received_on": ("timestamptz", "When the server received the submission."),
    "user_id": ("text", "User who submitted the form."),
    "username": ("text", "Name of that user at the time."),
    "archived": ("boolean", "Whether the submission was archived, that is, taken back."),
}
_PLACE_COLUMNS = frozenset({"repeat_id", "repeat_index", "parent_index", "parent_repeat_id"})
_FORM_FACTS = (
    ColumnSpec(
        "time_start",
        "timestamptz",
        "When the user opened the form, by the clock of the device.",
        text="casts.safe_timestamptz(metadata ->> 'timeStart')",
    ),
    ColumnSpec(
        "time_end",
        "timestamptz",
        "When the user finished the form, by the clock of the device.",
        text="casts.safe_timestamptz(metadata ->> 'timeEnd')",
    ),
    ColumnSpec(
        "duration_s",
        "double precision",
        "Seconds from time_start to time_end; negative when the clock was set back meanwhile.",
        value="extract(epoch from time_end - time_start)::double precision",
    ),
)


def form_tables(
    forms: Sequence[Form], profile: Profile, taken: Collection[str], now: Applications
) -> Iterator[TableSpec]:
    memories = {form.xmlns: profile.memory("form", form.xmlns) for form in forms}
    names = _form_names(forms, memories, taken, profile.used_names(memories.values()))
    used = {*taken, *names.values()}
    for form in sorted(forms, key=lambda form: form.xmlns):
        name = names[form.xmlns]
        yield from _form_table(form, name, profile, used, now)
        repeats = repeats_of(form)
        wishes = [(key_of(path), _repeat_name(name, path)) for path in repeats]
        kept = {key_of(path): profile.memory("repeat", repeat_source(form.xmlns, path)) for path in repeats}
        repeat_names = table_names(wishes, kept, used, profile.used_names(kept.values()))
        used.update(repeat_names.values())
        for path in repeats:
            yield from _repeat_table(form, name, path, repeat_names, profile, used, now)


def _form_names(
    forms: Sequence[Form], memories: Mapping[str, TableMemory], taken: Collection[str], reserved: Collection[str]
) -> dict[str, str]:
    """Table name by xmlns; names never change. Forms that would share a name get their application's name too, and if that is not
    enough, a hash. `reserved`: names of other tables, including those whose form is gone."""
    plain = {form.xmlns: identifier(form.title, prefix="form_", max_bytes=TABLE_MAX_BYTES) for form in forms}
    kept = existing_names(plain.items(), {xmlns: memory.name for xmlns, memory in memories.items()}, taken)
    held = Counter(plain.values())
    wishes = []
    for form in forms:
        wish = plain[form.xmlns]
        if form.xmlns not in kept and (held[wish] > 1 or wish in kept.values() or wish in reserved):
            text = f"{form.app_name} {form.title}"
            wish = identifier(text, prefix="form_", max_bytes=TABLE_MAX_BYTES)
        if form.xmlns not in kept:
            wishes.append((form.xmlns, wish))
    new = unique_identifiers(wishes, taken={*taken, *reserved, *kept.values()}, max_bytes=TABLE_MAX_BYTES)
    names = {form.xmlns: kept.get(form.xmlns) or new[form.xmlns] for form in forms}
    for xmlns, name in names.items():
        memories[xmlns].take(plain[xmlns], name)
    return names


def _repeat_name(form_table: str, path: Path) -> str:
    # Model iteration repeats store their repetitions under a key `item`.
    leaf = path[-2] if path[-1] == "item" and len(path) > 1 else path[-1]
    name = f"{form_table}__{identifier(leaf)}"
    if len(name) <= TABLE_MAX_BYTES:
        return name
    return f"{name[: TABLE_MAX_BYTES - 9].rstrip('_')}_{short_hash('/'.join((form_table, *path)))}"


def _form_table(form: Form, name: str, profile: Profile, used: set[str], now: Applications) -> Iterator[TableSpec]:
    memory = profile.memory("form", form.xmlns)
    own = [ColumnSpec(key, kind, about) for key, (kind, about) in _FORM_KEYS.items()]
    main, *others = case_columns(form, None, profile, memory, {column.name for column in (*own, *_FORM_FACTS)})
    keys = [*own, main, *_FORM_FACTS, *others]
    fields = answer_fields(form, None, name, profile, memory, now)
    about = f"One row per submission of the form {form_title(form)}.{formerly(memory)}"
    for part, part_name, columns in in_parts(name, keys, 1, fields, memory, used, "forms.form"):
        yield table_spec(
            part_name,
            "form",
            form.xmlns,
            about if part == 1 else continues(name, "form_id"),
            columns,
            form_rows(form.xmlns, [key for key in _FORM_KEYS if part == 1 or key == "form_id"]),
            app_ids=form.app_ids,
            applications=now,
            part=part,
        )


def _repeat_table(
    form: Form,
    form_table: str,
    path: Path,
    names: Mapping[str, str],
    profile: Profile,
    used: set[str],
    now: Applications,
) -> Iterator[TableSpec]:
    name, source = names[key_of(path)], repeat_source(form.xmlns, path)
    chain = [prefix for length in range(1, len(path) + 1) if key_of(prefix := path[:length]) in names]
    keys = {
        "repeat_id": ("text", "Identifier of the repetition: submission and positions; key of this table."),
        **_FORM_KEYS,
    }
    keys["repeat_index"] = ("bigint", "Position of the repetition, from 1.")
    around, parent = "", Parent(("form_id",), form_table, "form_id")
    if len(chain) > 1:
        outer = names[key_of(chain[-2])]
        keys["parent_index"] = ("bigint", "Position of the repetition around this one.")
        keys["parent_repeat_id"] = ("text", f"repeat_id of the repetition around this one, in {outer}.")
        around = f" It lies in the repeat group {shown('/'.join(chain[-2]))} ({outer}, by parent_repeat_id)."
        parent = Parent(("parent_repeat_id",), outer, "repeat_id")
    memory = profile.memory("repeat", source)
    key_columns = [ColumnSpec(key, kind, about, origins=_origins(key, path)) for key, (kind, about) in keys.items()]
    key_columns += case_columns(form, path, profile, memory, set(keys))
    fields = answer_fields(form, path, name, profile, memory, now)
    for part, part_name, columns in in_parts(name, key_columns, 2, fields, memory, used, "forms.form"):
        about = (
            f"One row per repetition of {shown('/'.join(path))} in the form {form_title(form)};"
            f" joins {form_table} by form_id.{around}{formerly(memory)}"
        )
        yield table_spec(
            part_name,
            "repeat",
            source,
            about if part == 1 else continues(name, "repeat_id"),
            columns,
            repeat_rows(form.xmlns, [*_FORM_KEYS], chain),
            app_ids=form.app_ids,
            applications=now,
            part=part,
            parent=parent if part == 1 else None,
        )


def _origins(key: str, path: Path) -> tuple[Origin, ...]:
    """Origins of the columns that hold a repetition's place."""
    if key not in _PLACE_COLUMNS:
        return ()
    place = Origin("forms", "form", path)
    return (place, Origin("forms", "form_id")) if key.endswith("_id") else (place,)
