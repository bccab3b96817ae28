"""What do newly loaded raw rows hold: properties, answers, repeats, case blocks, and their values?"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from psycopg import sql

from explorer.postgres.connections import Connection
from explorer.providers.commcare.structure import Form
from explorer.providers.commcare.tables.form_scan import FormScan, text_of
from explorer.providers.commcare.tables.profile import CaseTypeProfile, FormProfile, Profile
from explorer.tables.column_types import classify
from explorer.tables.value_counts import ValueCounts

_BATCH = 2_000
# Properties that the case has as a field of its own too, with that field's key.
PROPERTIES_OF_HEAD: Mapping[str, str] = {
    "name": "case_name",
    "case_name": "case_name",
    "external_id": "external_id",
    "owner_id": "owner_id",
    "date_opened": "date_opened",
    "last_modified": "last_modified",
    "closed": "closed",
}
# Numbers keep their original text.
_decode = msgspec.json.Decoder(float_hook=str).decode


def scan(profile: Profile, connection: Connection, raw_schema: str, forms: Iterable[Form]) -> None:
    """Add what was loaded since the last scan, and the applications' `forms`."""
    for form in forms:
        profile.remember(form)
    for values in profile.values():
        values.latest = {}
    if _exists(connection, raw_schema, "raw_cases"):
        _scan_cases(profile, connection, sql.Identifier(raw_schema, "raw_cases"))
    if _exists(connection, raw_schema, "raw_forms"):
        _scan_forms(profile, connection, sql.Identifier(raw_schema, "raw_forms"))


def _scan_cases(profile: Profile, connection: Connection, table: sql.Identifier) -> None:
    since, until = profile.cases_until, _latest(connection, table, profile.cases_until)
    query = sql.SQL(
        "select case_type, (record -> 'properties')::text, (record -> 'indices')::text,"
        " case when record -> 'properties' ?| {both} then (record - 'properties' - 'indices')::text end from {table}"
        " where _loaded_at > {since} and _loaded_at <= {until} and case_type is not null"
    ).format(
        table=table,
        since=sql.Literal(since),
        until=sql.Literal(until),
        both=sql.Literal(list(PROPERTIES_OF_HEAD)),
    )
    for case_type, properties, indices, head in _stream(connection, query):
        seen = profile.case_types.setdefault(case_type, CaseTypeProfile())
        seen.indices.update(_object(indices))
        own = _object(properties)
        if head is not None:
            seen.differing.update(_differing(own, _object(head)))
        for name, value in own.items():
            values = seen.properties.get(name)
            if values is None:
                values = seen.properties[name] = ValueCounts()
            if value not in ("", None):
                text = text_of(value)
                values.add(classify(text), text)
    profile.cases_until = until


def _scan_forms(profile: Profile, connection: Connection, table: sql.Identifier) -> None:
    since, until = profile.forms_until, _latest(connection, table, profile.forms_until)
    query = sql.SQL(
        "select record #>> '{{form,@xmlns}}', received_on, (record -> 'form')::text from {table}"
        " where _loaded_at > {since} and _loaded_at <= {until} and record #>> '{{form,@xmlns}}' <> ''"
    ).format(table=table, since=sql.Literal(since), until=sql.Literal(until))
    scans: dict[str, FormScan] = {}
    for xmlns, received_on, text in _stream(connection, query):
        if xmlns not in scans:
            seen = profile.forms.setdefault(xmlns, FormProfile(xmlns.rstrip("/").rsplit("/", 1)[-1] or xmlns))
            scans[xmlns] = FormScan(seen, profile.forms_known.get(xmlns))
        scans[xmlns].take(_object(text), received_on)
    profile.forms_until = until


def _differing(properties: Mapping[str, Any], head: Mapping[str, Any]) -> Iterator[str]:
    """Properties that differ from their case's own field; the same time may be written in two ways."""
    for name, key in PROPERTIES_OF_HEAD.items():
        own, other = properties.get(name), head.get(key)
        if own in ("", None) or (said := text_of(own)) == (known := "" if other is None else text_of(other)):
            continue
        if key == "closed" and said.lower() == known.lower():
            continue
        if key in ("date_opened", "last_modified") and _instant(said) is not None and _instant(said) == _instant(known):
            continue
        yield name


def _instant(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _stream(connection: Connection, query: sql.Composed) -> Iterator[tuple[Any, ...]]:
    with connection.cursor(name="scan") as cursor:
        cursor.itersize = _BATCH
        cursor.execute(query)
        yield from cursor


def _object(text: str | None) -> dict[str, Any]:
    value = _decode(text) if text else None
    return value if isinstance(value, dict) else {}


def _exists(connection: Connection, schema: str, table: str) -> bool:
    row = connection.execute(
        "select exists (select from pg_tables where schemaname = %s and tablename = %s)", [schema, table]
    ).fetchone()
    return row == (True,)


def _latest(connection: Connection, table: sql.Identifier, since: str) -> str:
    row = connection.execute(sql.SQL("select max(_loaded_at)::text from {}").format(table)).fetchone()
    return since if row is None or row[0] is None else str(row[0])
