"""Which tables does a project space get? This provider's table planner."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from explorer.contract.bookkeeping import repeats as kept_repeats
from explorer.contract.bookkeeping.lineage import ColumnLineage
from explorer.contract.bookkeeping.repeats import RepeatGroup
from explorer.contract.joins import Join, Joinable
from explorer.contract.schemas import TenantSchemas
from explorer.core.jsonb import storable
from explorer.postgres.connections import Connection
from explorer.providers.commcare import joins
from explorer.providers.commcare.origins import origin_of, question_of
from explorer.providers.commcare.structure import CaseType, Form, Question, Structure
from explorer.providers.commcare.tables.case_tables import case_tables
from explorer.providers.commcare.tables.descriptions import Applications
from explorer.providers.commcare.tables.form_tables import form_tables
from explorer.providers.commcare.tables.known_forms import complete
from explorer.providers.commcare.tables.paths import path_of
from explorer.providers.commcare.tables.profile import Profile
from explorer.providers.commcare.tables.scan import scan
from explorer.tables.plan import ChangeKey, TableFamily, TablePlan
from explorer.tables.values import TableSpec

_FAMILIES = (
    TableFamily(
        "case_tables",
        frozenset({"case_type"}),
        "case_",
        "cases",
        "One table per case type (`case_<type>`): a row per case, a column per property.",
    ),
    TableFamily(
        "form_tables",
        frozenset({"form", "repeat"}),
        "form_",
        "forms",
        "One table per form (`form_<name>`) and repeat group (`form_<name>__<repeat>`): a column per question.",
    ),
)
_NO_FORMS = "(select null::text as form_id, null::text as xmlns, null::timestamptz as received_on where false)"
_CHANGE_KEYS: Mapping[str, ChangeKey] = {
    "case_id": ChangeKey(
        "raw_cases",
        "cases",
        "select r.case_id, r.case_type as kind, m.case_type as previous_kind from {raw} r left join {mart} m using (case_id)",
        "(select null::text as case_id, null::text as case_type where false)",
    ),
    "form_id": ChangeKey(
        "raw_forms",
        "forms",
        "select r.form_id, r.record #>> '{{form,@xmlns}}' as kind, m.xmlns as previous_kind"
        " from {raw} r left join {mart} m using (form_id)",
        _NO_FORMS,
    ),
    # The days that changed submissions have and had. Submissions without a day are in no table of days.
    "day": ChangeKey(
        "raw_forms",
        "forms",
        "select distinct coalesce((moment at time zone 'UTC')::date, '-infinity') as day, null as kind, null as previous_kind"
        " from {raw} r left join {mart} m using (form_id) cross join unnest(array[r.received_on, m.received_on]) as moment",
        _NO_FORMS,
        in_table="coalesce(day, '-infinity')",
        is_indexed=False,
    ),
}


class CommCareTables:
    """The provider's `TablePlanner`."""

    families: ClassVar[tuple[TableFamily, ...]] = _FAMILIES
    change_keys: ClassVar[Mapping[str, ChangeKey]] = _CHANGE_KEYS
    key_by_kind: ClassVar[Mapping[str, str]] = joins.KEYS
    join_patterns: ClassVar[Sequence[tuple[str, str, str]]] = joins.PATTERNS

    def plan_tables(
        self, document: Mapping[str, Any], connection: Connection, schemas: TenantSchemas, *, taken: Collection[str]
    ) -> TablePlan:
        """Scan what was loaded since the last plan, and return the tables of applications and data."""
        structure = Structure.from_dict(dict(document)) if document else Structure(apps=(), case_types=(), forms=())
        profile = Profile.read(connection, schemas)
        scan(profile, connection, schemas.raw, structure.forms)
        tables = generate_tables(structure, profile, taken=taken)
        profile.write(connection, schemas)
        kept_repeats.write(connection, schemas, _repeat_groups(tables))
        return TablePlan(tuple(tables), profile.unreported_changes, {"repeats": _digest(tables)})

    def example(self, taken: Collection[str]) -> TablePlan:
        """One case type and one form with one question."""
        question = Question(("x",), label="x", type="Date")
        form = Form("x", name={}, title="x", app_id="x", app_name="x", module="x", case_type="x", questions=(question,))
        structure = Structure(apps=(), case_types=(CaseType("x", properties=("x",), app_ids=("x",)),), forms=(form,))
        tables = generate_tables(structure, Profile(), taken=taken)
        return TablePlan(tuple(tables), digests={"repeats": _digest(tables)})

    def mark_reported(self, connection: Connection, schemas: TenantSchemas) -> None:
        """Record that the type changes so far were reported."""
        Profile.mark_reported(connection, schemas)

    def joins_of(
        self, table: str, tables: Mapping[str, Joinable], common: Mapping[str, Sequence[str]]
    ) -> Iterable[Join]:
        """Along the keys that tables are cut with, and along relations between cases."""
        return joins.joins_of(table, tables, common)

    def origin_of(self, kind: str, source: str | None, document: Mapping[str, Any] | None) -> dict[str, Any] | str:
        """Applications, module, form, repeat group or case type."""
        return origin_of(kind, source, document)

    def origin_of_column(
        self,
        lineage: ColumnLineage | None,
        source: str | None,
        facts: Mapping[str, Any],
        document: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        """`{question}`, `{property}` or `{index}`."""
        return question_of(lineage, source, facts, document)


def generate_tables(structure: Structure, profile: Profile, *, taken: Collection[str]) -> list[TableSpec]:
    """All generated tables, sorted by name; `taken`: names of the static models. Names, types and parts are remembered in
    `profile`, so that they never change."""
    forms = list(complete(profile, structure.forms))
    applications = Applications(structure)
    tables = [
        *case_tables(structure, profile, taken, applications),
        *form_tables(forms, profile, taken, applications),
    ]
    return sorted(tables, key=lambda table: table.name)


def _repeat_groups(tables: Iterable[TableSpec]) -> list[RepeatGroup]:
    """xmlns and path of repeat groups with tables, in a form that PostgreSQL can hold: the loader repairs records in the same
    way.

    The array positions of a case block are those of repetitions, or only of blocks in a list. The data alone cannot tell, since
    a single repetition is an object.
    """
    sources = (table.source.rpartition(" ") for table in tables if table.kind == "repeat" and table.part == 1)
    return sorted((storable(xmlns), tuple(storable(path_of(key)))) for xmlns, _, key in sources)


def _digest(tables: Iterable[TableSpec]) -> bytes:
    """Changes with the repeat groups: what is built from them must then be built again."""
    return hashlib.sha256(repr(_repeat_groups(tables)).encode()).digest()
