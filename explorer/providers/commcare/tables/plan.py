"""Which tables does a project space get? This provider's table planner."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from explorer.contract.bookkeeping.lineage import ColumnLineage
from explorer.contract.joins import Join, Joinable
from explorer.contract.schemas import TenantSchemas
from explorer.core.jsonb import storable
from explorer.postgres.connections import Connection
from explorer.providers.commcare import joins
from explorer.providers.commcare.origins import origin_of, question_of
from explorer.providers.commcare.structure import Structure
from explorer.providers.commcare.tables.case_tables import case_tables
from explorer.providers.commcare.tables.descriptions import Applications
from explorer.providers.commcare.tables.fixed import RepeatGroup, fixed_tables
from explorer.providers.commcare.tables.fixed.changes import CHANGED_RECORDS
from explorer.providers.commcare.tables.form_tables import form_tables
from explorer.providers.commcare.tables.known_forms import complete
from explorer.providers.commcare.tables.paths import path_of
from explorer.providers.commcare.tables.profile import Profile
from explorer.providers.commcare.tables.scan import scan
from explorer.tables.plan import ChangedRecords, TableFamily, TablePlan
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


class CommCareTables:
    """The provider's `TablePlanner`."""

    families: ClassVar[tuple[TableFamily, ...]] = _FAMILIES
    fixed: ClassVar[tuple[TableSpec, ...]] = fixed_tables()
    changed_records: ClassVar[tuple[ChangedRecords, ...]] = CHANGED_RECORDS
    key_by_kind: ClassVar[Mapping[str, str]] = joins.KEYS
    join_patterns: ClassVar[Sequence[tuple[str, str, str]]] = joins.PATTERNS

    def plan_tables(
        self, document: Mapping[str, Any], connection: Connection, schemas: TenantSchemas, *, taken: Collection[str]
    ) -> TablePlan:
        """Scan what was loaded since the last plan, and return the tables of applications and data."""
        structure = Structure.from_dict(dict(document)) if document else Structure(apps=(), case_types=(), forms=())
        profile = Profile.read(connection, schemas)
        scan(profile, connection, schemas.raw, structure.forms)
        tables = generate_tables(structure, profile, taken={*taken, *(table.name for table in self.fixed)})
        profile.write(connection, schemas)
        return TablePlan((*fixed_tables(repeat_groups(tables), tables), *tables), profile.unreported_changes)

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
    """All generated tables, sorted by name; `taken`: names of other tables. Names, types and parts are remembered in
    `profile`, so that they never change."""
    forms = list(complete(profile, structure.forms))
    applications = Applications(structure)
    tables = [
        *case_tables(structure, profile, taken, applications),
        *form_tables(forms, profile, taken, applications),
    ]
    return sorted(tables, key=lambda table: table.name)


def repeat_groups(tables: Iterable[TableSpec]) -> frozenset[RepeatGroup]:
    """The repeat groups that have tables, in a form that PostgreSQL can hold: the loader repairs records in the same way."""
    sources = (table.source.rpartition(" ") for table in tables if table.kind == "repeat" and table.part == 1)
    return frozenset((storable(xmlns), tuple(storable(path_of(key)))) for xmlns, _, key in sources)
