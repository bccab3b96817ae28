"""Saved models become tables, by a login that may read what agents may, and nothing else."""

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest

from explorer.catalog.tenants.saved_models import ColumnTests, ModelText, Reference
from explorer.contract.bookkeeping import builds
from explorer.contract.bookkeeping.builds import SAVED
from explorer.core.settings import Settings
from explorer.postgres import reader_rights
from explorer.postgres.connections import Connections, Login
from explorer.postgres.provisioning import deprovision, provision_saved
from explorer.saved_models import BuiltModels, SavedModelsDbt, build, is_current
from mcp_bridge.sql import validate
from tests.conftest import tenants
from tests.explorer.marts.studio import PROVIDER, Studio, copy_project

PASSWORD = "a-password-of-a-test"


@dataclass(frozen=True)
class Desk:
    """A tenant whose agents save models. `own`: the login that builds them."""

    studio: Studio
    own: Login

    @property
    def dbt(self) -> SavedModelsDbt:
        tenant = self.studio.tenant
        return SavedModelsDbt(self.studio.settings, PROVIDER, tenant.names, tenant.rw, self.own)

    def text(self, sql: str, *columns: str, description: str = "Made by a test.", **tests: ColumnTests) -> ModelText:
        """A model as the bridge would save it."""
        names = self.studio.tenant.names
        with self.studio.tenant.rw.connect() as connection:
            relations = {
                schema: dict.fromkeys(
                    [
                        row[0]
                        for row in connection.execute(
                            "select relname from pg_class where relnamespace = %s::regnamespace and relkind = 'r'",
                            [schema],
                        )
                    ],
                    ("id", "name", "n", "total"),
                )
                for schema in (names.marts, names.saved)
            }
        query = validate(sql, schemas=frozenset(relations), relations=relations)
        assert query.references is not None
        references = tuple(Reference(*each) for each in query.references)
        return ModelText(query.text, description, tuple((name, "text") for name in columns), references, tests)

    def build(self, models: dict[str, ModelText], *, by_need: bool = True, run_id: str = "run-1") -> BuiltModels:
        built = build(
            self.dbt, models, by_need=by_need, run_id=run_id, on_plan=lambda _: None, on_result=lambda _: None
        )
        schemas = self.studio.tenant.names
        with self.own.connect(autocommit=True) as connection:
            reader_rights.open_all(connection, schemas, [schemas.saved])
        return built

    def verbs(self, models: dict[str, ModelText], **arguments: bool) -> dict[str, str]:
        return {name: result.verb for name, result in self.build(models, **arguments).results.items()}

    def read(self, query: str) -> list[tuple[object, ...]]:
        """As the tenant's agents."""
        names = self.studio.tenant.names
        with self.studio.tenant.ro.connect() as connection:
            connection.execute(f"set search_path = {names.marts}, {names.saved}".encode())
            return connection.execute(query.encode()).fetchall()


@pytest.fixture(scope="module")
def desk(connections: Connections, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    settings = Settings(
        _env_file=None, home=folder / "home", project_dir=folder / "checkout", saved_model_max_rows=1000
    )
    copy_project(settings.project_dir)
    with tenants(connections) as make:
        studio = Studio(make(), connections, settings)
        names = studio.tenant.names
        with connections.admin.connect(autocommit=True) as admin:
            provision_saved(admin, names.prefix, PASSWORD)
        studio.make_table("cases", "select 1 as id, 'Asha' as name union all select 2, 'O''Neil'")
        yield Desk(studio, connections.tenant(names.saved, PASSWORD))


def test_models_are_built_in_order_and_again_only_when_something_changed(desk: Desk) -> None:
    models = {
        "per_name": desk.text("select name, count(*) as n from cases group by name", "name", "n"),
    }
    assert desk.verbs(models) == {"per_name": "built"}
    models["a_total"] = desk.text("select sum(n) as total from per_name", "total")
    assert desk.verbs(models) == {"per_name": "unchanged", "a_total": "built"}
    assert desk.read("select total from a_total") == [(2,)]
    assert is_current(desk.studio.tenant.rw, desk.studio.tenant.names, models)
    desk.studio.make_table("cases", "select 1 as id, 'Asha' as name")
    assert not is_current(desk.studio.tenant.rw, desk.studio.tenant.names, models)
    assert desk.verbs(models) == {"per_name": "built", "a_total": "built"}
    assert desk.read("select total from a_total") == [(1,)]
    with desk.studio.tenant.rw.connect() as connection:
        record = builds.read(connection, desk.studio.tenant.names)["a_total"]
    assert (record.kind, record.rows, record.run_id) == (SAVED, 1, "run-1")
    del models["a_total"]
    assert desk.build(models).dropped == ["a_total"]
    with pytest.raises(psycopg.errors.UndefinedTable):
        desk.read("select * from a_total")


def test_a_model_over_a_view_follows_what_the_view_reads(desk: Desk) -> None:
    names = desk.studio.tenant.names
    desk.studio.make_table("cases", "select 1 as id, 'Asha' as name")
    with desk.studio.tenant.rw.connect() as connection:
        connection.execute(f"create view {names.marts}.shown as select id from {names.marts}.cases".encode())
        builds.record(
            connection, names, "shown", definition="d", built_from={"cases": "1"}, run_id="r", rows=0, kind="model"
        )
        connection.execute(f"update {names.staging}.explorer_tables set rows = null where name = 'shown'".encode())
    text = ModelText("select id from shown", "Over a view.", (("id", "integer"),), (Reference(15, 20, "shown"),))
    assert desk.verbs({"over_view": text}) == {"over_view": "built"}
    assert desk.verbs({"over_view": text}) == {"over_view": "unchanged"}
    desk.studio.make_table("cases", "select 2 as id, 'Bela' as name")
    assert desk.verbs({"over_view": text}) == {"over_view": "built"}
    assert desk.read("select id from over_view") == [(2,)]
    with desk.studio.tenant.rw.connect() as connection:
        connection.execute(f"drop view {names.marts}.shown".encode())
        builds.forget(connection, names, ["shown"])


def test_one_that_is_broken_fails_alone_and_keeps_its_rows(desk: Desk) -> None:
    good = desk.text("select id from cases", "id")
    assert desk.verbs({"shares": good, "sound": good}) == {"shares": "built", "sound": "built"}
    broken = desk.text("select 1 / (id - id) as id from cases", "id")
    reading = desk.text("select id from shares", "id")
    built = desk.build({"shares": broken, "sound": good, "reads_shares": reading})
    assert built.results["sound"].verb == "unchanged"
    assert built.results["shares"].verb == "failed"
    assert "division by zero" in (built.results["shares"].message or "")
    assert built.results["reads_shares"].verb == "skipped"
    assert desk.read("select id from shares")
    # It is tried again with each run.
    assert desk.build({"shares": broken, "sound": good}).results["shares"].verb == "failed"


def test_what_tests_find_is_recorded(desk: Desk) -> None:
    desk.studio.make_table("cases", "select 1 as id, 'Asha' as name union all select 1, 'O''Neil'")
    text = desk.text(
        "select id, name from cases",
        "id",
        "name",
        id=ColumnTests(unique=True, not_null=True),
        name=ColumnTests(accepted_values=("Asha", "O'Neil")),
    )
    found = desk.build({"tested": text}).builds["tested"].findings
    assert [(each.check, each.status, each.rows) for each in found] == [("id__unique", "fail", 1)]
    desk.studio.make_table("cases", "select 1 as id, 'Bela' as name")
    found = desk.build({"tested": text}).builds["tested"].findings
    assert [(each.check, each.rows) for each in found] == [("name__accepted_values", 1)]


@pytest.mark.parametrize(
    "value",
    [
        "{{ 1 / 0 }}",
        "{% endraw %}{{ env_var('PATH') }}",
        "{# a #}",
        "}} {{ ref('x') }}",
        "{%- do 1 -%}",
        "{{ '{' }}",
        "{",
    ],
)
def test_no_text_of_a_statement_is_jinja(desk: Desk, value: str) -> None:
    text = desk.text(f"select '{value.replace(chr(39), chr(39) * 2)}' as name -- {{{{ 1 / 0 }}}} {value}", "name")
    assert desk.verbs({"said": text}) == {"said": "built"}
    assert desk.read("select name from said") == [(value,)]


def test_a_model_with_too_many_rows_or_of_too_much_time_fails(desk: Desk) -> None:
    desk.studio.make_table("cases", "select i as id, 'Asha' as name from generate_series(1, 1001) i")
    built = desk.build({"many": desk.text("select id from cases", "id")})
    assert built.results["many"].verb == "failed"
    assert "more than 1000 rows" in (built.results["many"].message or "")
    assert desk.verbs({"many": desk.text("select id from cases limit 1000", "id")}) == {"many": "built"}


def test_its_login_reads_what_agents_may_and_writes_in_its_schema_alone(desk: Desk, connections: Connections) -> None:
    names = desk.studio.tenant.names
    with tenants(connections) as make, desk.own.connect(autocommit=True) as own:
        other = make().names
        for statement in (
            f"create table {names.marts}.mine (a int)",
            f"create table {names.staging}.mine (a int)",
            f"insert into {names.marts}.cases values (3, 'x')",
            f"drop table {names.marts}.cases",
            f"select * from {names.staging}.explorer_tables",
            f"create table {other.marts}.mine (a int)",
            "create table public.mine (a int)",
            "create schema mine",
            f"set role {names.ro}" if own.info.server_version >= 160000 else f"set role {names.rw}",
            f"set role {names.rw}",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                own.execute(statement.encode())
        assert own.execute(f"select count(*) from {names.marts}.cases".encode()).fetchone()
    with desk.studio.tenant.rw.connect(autocommit=True) as rw:
        reader_rights.withhold(rw, names, [names.marts], {"cases": {"name"}})
        try:
            built = desk.build({"leak": desk.text("select name from cases", "name")})
        finally:
            reader_rights.open_all(rw, names, [names.marts])
    assert built.results["leak"].verb == "failed"
    assert "permission denied" in (built.results["leak"].message or "")


def test_nothing_is_left_of_a_tenant_with_saved_models(connections: Connections) -> None:
    with tenants(connections) as make:
        names = make().names
        with connections.admin.connect(autocommit=True) as admin:
            provision_saved(admin, names.prefix, PASSWORD)
            provision_saved(admin, names.prefix, PASSWORD)
            with connections.tenant(names.saved, PASSWORD).connect() as own:
                own.execute(f"create table {names.saved}.mine as select 1 as a".encode())
            deprovision(admin, names.prefix)
            left = "select count(*) from pg_namespace where nspname = %s"
            assert admin.execute(left, [names.saved]).fetchone() == (0,)
            assert admin.execute("select count(*) from pg_roles where rolname = %s", [names.saved]).fetchone() == (0,)
