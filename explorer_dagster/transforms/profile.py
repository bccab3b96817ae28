"""What do a tenant's raw tables hold that no application describes: case types, properties, indices, forms and their answers?

What was seen once stays known: only rows loaded since the last look are read, and a column does not vanish because its values
did.
"""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import msgspec
import psycopg
from psycopg import sql

from explorer_dagster.commcare.structure import Form, Question

_FORMS_PER_XMLNS = 200
_NOT_ANSWERS = frozenset({"case", "meta", "commcare_usercase", "#type", "#text"})
_NO_APP = "no application"

Connection = psycopg.Connection[tuple[Any, ...]]


class SeenCaseType(msgspec.Struct):
    """Properties and index identifiers that cases of one type have."""

    properties: set[str] = msgspec.field(default_factory=set)
    indices: set[str] = msgspec.field(default_factory=set)


class SeenForm(msgspec.Struct):
    """A form by its submissions: its latest name; answers and repeats by their keys below the root."""

    name: str
    answers: set[tuple[str, ...]] = msgspec.field(default_factory=set)
    repeats: set[tuple[str, ...]] = msgspec.field(default_factory=set)
    is_read: bool = False


class RawProfile(msgspec.Struct):
    """Everything seen in the raw tables up to `cases_until` and `forms_until` (ISO times of loading)."""

    cases_until: str = "-infinity"
    forms_until: str = "-infinity"
    case_types: dict[str, SeenCaseType] = msgspec.field(default_factory=dict)
    forms: dict[str, SeenForm] = msgspec.field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> Self:
        """The profile kept in `file`; an empty one when there is none that can be read: everything is then looked at again."""
        try:
            return msgspec.json.decode(file.read_bytes(), type=cls)
        except (FileNotFoundError, msgspec.DecodeError):
            return cls()

    def write(self, file: Path) -> None:
        """Keep the profile in `file`."""
        partial = file.with_suffix(".partial")
        partial.write_bytes(msgspec.json.encode(self, order="sorted"))
        partial.replace(file)

    def look(self, connection: Connection, raw_schema: str, known_xmlns: Collection[str]) -> None:
        """Take in what was loaded since the last look. Answers are read of forms that are not in `known_xmlns`."""
        if _exists(connection, raw_schema, "raw_cases"):
            self._look_at_cases(connection, sql.Identifier(raw_schema, "raw_cases"))
        if _exists(connection, raw_schema, "raw_forms"):
            self._look_at_forms(connection, sql.Identifier(raw_schema, "raw_forms"), known_xmlns)

    def unknown_forms(self, known_xmlns: Collection[str]) -> Iterator[Form]:
        """Forms that were submitted but are in no application any more, with their answers as text questions."""
        for xmlns in sorted(set(self.forms) - set(known_xmlns)):
            yield _as_form(xmlns, self.forms[xmlns])

    def _look_at_cases(self, connection: Connection, table: sql.Identifier) -> None:
        until = _latest(connection, table, self.cases_until)
        for field, column in (("properties", "properties"), ("indices", "indices")):
            query = sql.SQL(
                "select distinct case_type, key from {table} cross join lateral jsonb_object_keys("
                "case when jsonb_typeof(record -> {field}) = 'object' then record -> {field} else '{{}}'::jsonb end) as key "
                "where _loaded_at > {since} and _loaded_at <= {until} and case_type is not null"
            ).format(
                table=table, field=sql.Literal(field), since=sql.Literal(self.cases_until), until=sql.Literal(until)
            )
            for case_type, key in connection.execute(query):
                getattr(self.case_types.setdefault(case_type, SeenCaseType()), column).add(key)
        query = sql.SQL(
            "select distinct case_type from {table} where _loaded_at > {since} and case_type is not null"
        ).format(table=table, since=sql.Literal(self.cases_until))
        for (case_type,) in connection.execute(query):
            self.case_types.setdefault(case_type, SeenCaseType())
        self.cases_until = until

    def _look_at_forms(self, connection: Connection, table: sql.Identifier, known_xmlns: Collection[str]) -> None:
        until = _latest(connection, table, self.forms_until)
        query = sql.SQL(
            "select record #>> '{{form,@xmlns}}' as xmlns, "
            "(array_agg(record #>> '{{form,@name}}' order by received_on desc nulls last))[1] "
            "from {table} where _loaded_at > {since} and _loaded_at <= {until} "
            "group by 1 having record #>> '{{form,@xmlns}}' <> ''"
        ).format(table=table, since=sql.Literal(self.forms_until), until=sql.Literal(until))
        for xmlns, name in connection.execute(query):
            self.forms.setdefault(xmlns, SeenForm(name or xmlns)).name = name or xmlns
        unread = [xmlns for xmlns, form in self.forms.items() if xmlns not in known_xmlns and not form.is_read]
        for xmlns, form in self._samples(connection, table, known_xmlns, unread, until):
            _collect(form, self.forms[xmlns])
            self.forms[xmlns].is_read = True
        self.forms_until = until

    def _samples(
        self, connection: Connection, table: sql.Identifier, known: Collection[str], unread: list[str], until: str
    ) -> Iterable[tuple[str, Any]]:
        if set(self.forms) <= set(known):
            return []
        query = sql.SQL(
            "select xmlns, form from (select form_id, record -> 'form' as form, record #>> '{{form,@xmlns}}' as xmlns, "
            "row_number() over (partition by record #>> '{{form,@xmlns}}' "
            "order by received_on desc nulls last, form_id) as position "
            "from {table} where (_loaded_at > {since} or record #>> '{{form,@xmlns}}' = any({unread})) and _loaded_at <= {until} "
            "and record #>> '{{form,@xmlns}}' <> all({known}) and record #>> '{{form,@xmlns}}' <> '') as ranked "
            "where position <= {limit}"
        ).format(
            table=table,
            since=sql.Literal(self.forms_until),
            until=sql.Literal(until),
            unread=sql.Literal(unread),
            known=sql.Literal(list(known)),
            limit=sql.Literal(_FORMS_PER_XMLNS),
        )
        return connection.execute(query)


def _exists(connection: Connection, schema: str, table: str) -> bool:
    row = connection.execute(
        "select exists (select from pg_tables where schemaname = %s and tablename = %s)", [schema, table]
    ).fetchone()
    return row == (True,)


def _latest(connection: Connection, table: sql.Identifier, since: str) -> str:
    row = connection.execute(sql.SQL("select max(_loaded_at)::text from {}").format(table)).fetchone()
    return since if row is None or row[0] is None else str(row[0])


def _collect(node: Any, seen: SeenForm, path: tuple[str, ...] = ()) -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            if not key.startswith("@") and key not in _NOT_ANSWERS:
                _collect(value, seen, (*path, key))
        if path and "#text" in node:
            seen.answers.add(path)
    elif isinstance(node, list) and any(isinstance(item, dict) for item in node):
        seen.repeats.add(path)
        for item in node:
            if isinstance(item, dict):
                _collect(item, seen, path)
    elif path:
        seen.answers.add(path)


def _as_form(xmlns: str, seen: SeenForm) -> Form:
    repeats = [
        Question(path, label=path[-1], type="Repeat", repeat=_around(path, seen.repeats), is_group=True)
        for path in sorted(seen.repeats)
    ]
    answers = [
        Question(path, label=path[-1], type=None, repeat=_around(path, seen.repeats))
        for path in sorted(seen.answers - seen.repeats)
        if not any(other[: len(path)] == path for other in seen.answers - {path})
    ]
    return Form(
        xmlns=xmlns,
        name={},
        title=seen.name,
        app_id="",
        app_name=_NO_APP,
        module="",
        case_type=None,
        questions=(*repeats, *answers),
    )


def _around(path: tuple[str, ...], repeats: set[tuple[str, ...]]) -> tuple[str, ...] | None:
    prefixes = [path[:length] for length in range(len(path) - 1, 0, -1)]
    return next((prefix for prefix in prefixes if prefix in repeats), None)
