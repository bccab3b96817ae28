"""The applications' labels are stored with the tables and read back unchanged, for every table that exists."""

from collections.abc import Callable

import psycopg

from explorer.contract.bookkeeping.columns import read, write
from explorer.contract.schemas import TenantSchemas
from explorer.providers.commcare.structure import Form, Option, Question, Structure
from explorer.providers.commcare.tables.plan import generate_tables
from explorer.providers.commcare.tables.profile import Profile
from explorer.tables.column_facts import facts_of
from explorer.tables.values import TableSpec
from tests.conftest import Tenant


def tables(*questions: Question) -> list[TableSpec]:
    form = Form("x", {"en": "Visit"}, "Visit", "a", "App", "Module", None, questions)
    return generate_tables(Structure(apps=(), case_types=(), forms=(form,)), Profile(), taken=())


SIGNS = Question(
    ("group", "signs"),
    label="Danger signs?\0",
    type="Select",
    translations={"hi": "खतरे के संकेत"},
    options=(Option("y", "Yes", {"hi": "हाँ"}), Option("n", "No")),
)


def test_words_come_back_as_written(make_tenant: Callable[..., Tenant]) -> None:
    tenant = make_tenant()
    with tenant.rw.connect(autocommit=True) as connection:
        assert read(connection, TenantSchemas(tenant.prefix), ["form_visit"]) == {}
        write(connection, TenantSchemas(tenant.prefix), facts_of(tables(SIGNS)))
        found = read(connection, TenantSchemas(tenant.prefix), ["form_visit", "cases"])
    assert found == {
        "form_visit": {
            "group__signs": {
                "path": ["group", "signs"],
                "question_type": "Select",
                "label": "Danger signs?\ufffd",
                "translations": {"hi": "खतरे के संकेत"},
                "options": [
                    {"value": "y", "label": "Yes", "translations": {"hi": "हाँ"}},
                    {"value": "n", "label": "No"},
                ],
            }
        }
    }


def test_a_retired_table_keeps_its_words_and_one_that_is_gone_loses_them(make_tenant: Callable[..., Tenant]) -> None:
    tenant = make_tenant()
    with tenant.rw.connect(autocommit=True) as connection:
        write(connection, TenantSchemas(tenant.prefix), facts_of(tables(SIGNS)))
        connection.execute(f"create table {tenant.prefix}_marts.form_visit (a int)".encode())
        write(connection, TenantSchemas(tenant.prefix), facts_of([]))
        assert set(read(connection, TenantSchemas(tenant.prefix), ["form_visit"])) == {"form_visit"}
        connection.execute(f"drop table {tenant.prefix}_marts.form_visit".encode())
        write(connection, TenantSchemas(tenant.prefix), facts_of([]))
        assert read(connection, TenantSchemas(tenant.prefix), ["form_visit"]) == {}


def test_agents_do_not_reach_the_table_itself(make_tenant: Callable[..., Tenant]) -> None:
    tenant = make_tenant()
    with tenant.rw.connect(autocommit=True) as connection:
        write(connection, TenantSchemas(tenant.prefix), facts_of(tables(SIGNS)))
    with tenant.ro.connect() as connection:
        try:
            connection.execute(f"select * from {tenant.prefix}_staging.explorer_columns".encode())
        except psycopg.errors.InsufficientPrivilege:
            return
    raise AssertionError("the reader saw the staging schema")
