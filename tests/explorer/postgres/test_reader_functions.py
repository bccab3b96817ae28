"""The functions and system relations that the reader's login may use, checked one by one in PostgreSQL itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice, product

import psycopg
import pytest

from explorer.postgres.connections import Connections
from tests.conftest import Tenant, tenants

DENIED = psycopg.errors.InsufficientPrivilege
# `pg_typeof` tells the type of the caller's own value; a text search configuration's name goes in and none comes out.
# `bernoulli` and `system` take `internal`: only TABLESAMPLE can call them.
EXCUSED = {"pg_typeof", "bernoulli", "system"}
# Text to value and back: `'12'::text::int` is worked out with the user's rights. None of them looks at the type's number
# that some are given.
_VALUE_TYPES = """
    bool int2 int4 int8 float4 float8 numeric cash text varchar bpchar char name bytea date time timetz timestamp timestamptz
    interval json jsonb jsonpath uuid inet cidr macaddr macaddr8 bit varbit tsvector tsquery cstring
""".split()  # noqa: SIM905
_KINDS = """
    array anyarray enum anyenum range anyrange multirange anymultirange record any anycompatible anycompatiblearray
    anycompatiblenonarray anycompatiblerange anycompatiblemultirange anyelement anynonarray
""".split()  # noqa: SIM905
SPELLING = {f"{type_}{ending}" for type_ in _VALUE_TYPES for ending in ("in", "out", "_in", "_out")} | {
    f"{kind}_out" for kind in _KINDS
}
OBJECTS_TYPES = """
    oid oidvector xid xid8 cid tid pg_lsn pg_snapshot txid_snapshot aclitem refcursor cstring internal pg_node_tree
    pg_ddl_command trigger event_trigger language_handler fdw_handler index_am_handler tsm_handler table_am_handler
    xml point line lseg box path polygon circle gtsvector
""".split()  # noqa: SIM905
EXECUTABLE = """
    SELECT p.oid, p.proname::text, p.proargtypes::oid[]::regtype[]::text[], p.prorettype::regtype::text,
           array_length(p.proargtypes::oid[], 1), p.prokind::text,
           ARRAY(SELECT t.typname::text FROM pg_type t WHERE t.oid = ANY(p.proargtypes::oid[] || p.prorettype
                 || coalesce(p.proallargtypes, '{}'::oid[])))
      FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
     WHERE has_function_privilege(%s, p.oid, 'EXECUTE') = %s AND has_schema_privilege(%s, n.oid, 'USAGE')
       AND n.nspname = 'pg_catalog' ORDER BY p.oid
"""


@pytest.fixture(scope="module")
def rivals(connections: Connections) -> Iterator[tuple[Tenant, Tenant]]:
    with tenants(connections) as make:
        asking, rival = make(), make()
        with rival.rw.connect() as rw:
            rw.execute("CREATE TABLE rival_visits (id int, rival_note text)")
            rw.execute("CREATE SEQUENCE rival_numbers")
            rw.execute("CREATE FUNCTION rival_function() RETURNS text LANGUAGE sql AS $$ SELECT 'RIVAL_BODY' $$")
            rw.execute("CREATE VIEW rival_view AS SELECT rival_note FROM rival_visits")
            rw.execute("COMMENT ON TABLE rival_visits IS 'RIVAL_COMMENT'")
        yield asking, rival


@contextmanager
def reader(tenant: Tenant) -> Iterator[psycopg.Connection]:
    with tenant.ro.connect(autocommit=True) as conn:
        conn.execute("SET default_transaction_read_only = off")
        conn.execute("SET statement_timeout = '2s'")
        yield conn


def functions(connections: Connections, tenant: Tenant, *, executable: bool) -> list[tuple]:
    with connections.admin.connect(autocommit=True) as conn:
        return conn.execute(EXECUTABLE, [tenant.ro.user, executable, tenant.ro.user]).fetchall()


def test_no_function_that_the_reader_may_call_takes_or_gives_objects(
    connections: Connections, rivals: tuple[Tenant, Tenant]
) -> None:
    found = functions(connections, rivals[0], executable=True)
    assert len(found) > 1000, "ordinary functions are there"
    objects = []
    for _oid, name, _args, _result, _count, _kind, types in found:
        plain = {type_.removeprefix("_") for type_ in types}
        if name not in EXCUSED | SPELLING and any(
            t in OBJECTS_TYPES or (t.startswith("reg") and t != "regconfig") for t in plain
        ):
            objects.append((name, types))
    assert objects == []


def test_no_callable_function_is_named_like_one_about_the_server(
    connections: Connections, rivals: tuple[Tenant, Tenant]
) -> None:
    names = {row[1] for row in functions(connections, rivals[0], executable=True)}
    server = ("pg_", "lo_", "txid_", "has_", "binary_upgrade", "inet_server", "inet_client", "to_reg")
    about = {name for name in names if name.startswith(server)}
    assert about == {"pg_typeof", "pg_column_size", "pg_size_pretty", "pg_size_bytes"}
    closed = """
        format_type obj_description col_description current_setting set_config version ts_stat ts_rewrite query_to_xml currval
        nextval aclexplode current_schemas getdatabaseencoding json_populate_record array_in record_in enum_in range_in
        domain_in regclassin regconfigin regtypeout oidin ts_debug ts_parse ts_token_type
    """
    assert names & set(closed.split()) == set()


def test_every_other_function_is_denied_when_it_is_called(
    connections: Connections, rivals: tuple[Tenant, Tenant]
) -> None:
    """Not only by the catalog's word: functions of one to three arguments are called, also those for casts and output."""
    asked, allowed = 0, []
    with reader(rivals[0]) as conn:
        for _oid, name, args, result, count, kind, _types in functions(connections, rivals[0], executable=False):
            if (
                kind != "f"
                or (count or 0) > 3
                or "internal" in [*args, result]
                or "trigger" in result
                or '"any"' in args
            ):
                continue
            # From a subquery: a strict function of a constant NULL is not called at all.
            columns = ", ".join(f"NULL::{_null_type(arg)} AS c{number}" for number, arg in enumerate(args))
            call = ", ".join(f"q.c{number}" for number, _ in enumerate(args))
            try:
                conn.execute(f'SELECT pg_catalog."{name}"({call}) FROM (SELECT {columns} OFFSET 0) q'.encode())
                allowed.append((name, args))
            except DENIED:
                asked += 1
            except psycopg.Error:
                pass  # of a kind that no expression can call
    assert allowed == []
    assert asked > 700


def _null_type(arg: str) -> str:
    if arg.startswith("any"):
        return "int4[]" if "array" in arg else "int4"
    return arg


def test_no_callable_function_gives_the_rivals_names_away(
    connections: Connections, rivals: tuple[Tenant, Tenant]
) -> None:
    """Each is called with the numbers of the rival's objects, in every form that its arguments can have."""
    asking, rival = rivals
    with connections.admin.connect(autocommit=True) as conn:
        numbers = [str(row[0]) for row in conn.execute(
            "SELECT c.oid FROM pg_class c WHERE c.relnamespace = %s::regnamespace UNION ALL"
            " SELECT oid FROM pg_namespace WHERE nspname = %s UNION ALL SELECT oid FROM pg_roles WHERE rolname = %s"
            " UNION ALL SELECT oid FROM pg_proc WHERE proname = 'rival_function'",
            [rival.names.schema("marts"), rival.names.schema("marts"), rival.names.ro])]  # fmt: skip
    secrets = (rival.prefix, "rival_", "RIVAL_")
    called = 0
    with reader(asking) as conn:
        for _oid, name, args, _result, count, kind, _types in functions(connections, asking, executable=True):
            if kind != "f" or not count or count > 3 or "internal" in args:
                continue
            pools = [[_argument(arg, number) for number in numbers] for arg in args]
            for chosen in islice(product(*pools), 6):
                try:
                    rows = conn.execute(
                        f'SELECT pg_catalog."{name}"({", ".join(chosen)})::text LIMIT 50'.encode()
                    ).fetchall()
                    answer, called = str(rows), called + 1
                except psycopg.Error as error:
                    answer = str(error)
                assert not any(secret in answer for secret in secrets), (name, chosen)
    assert called > 1000


def _argument(type_name: str, number: str) -> str:
    if type_name in ("integer", "bigint", "numeric", "double precision", "real"):
        return f"{number}::{type_name}"
    if type_name.startswith(("any", '"any')):
        return f"ARRAY[{number}]" if "array" in type_name else f"{number}::int"
    if type_name in ("text", "character varying", "name", "character", "bytea"):
        return f"'{number}'::{type_name}"
    if type_name in ("json", "jsonb"):
        return f"'[{number}]'::{type_name}"
    if type_name.endswith("[]"):
        return f"'{{{number}}}'::{type_name}"
    return f"NULL::{type_name}"


def test_no_system_relation_can_be_read(connections: Connections, rivals: tuple[Tenant, Tenant]) -> None:
    with connections.admin.connect(autocommit=True) as conn:
        relations = conn.execute(
            "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'v', 'm', 't', 'S', 'p', 'f')"
            " AND n.nspname NOT LIKE %s",
            [f"{rivals[0].prefix}%"],
        ).fetchall()
    assert len(relations) > 200
    with reader(rivals[0]) as conn:
        readable = []
        for (relation,) in relations:
            try:
                conn.execute(f"SELECT * FROM {relation} LIMIT 1".encode())
                readable.append(relation)
            except DENIED:
                pass
        assert readable == []


@pytest.mark.parametrize(
    "expression",
    [
        "((g::text).textout).regclassin::text",
        "((g::text).textout).regrolein::text",
        "(g::oid).regclassout::text",
        "format_type(g::oid, NULL)",
        "pg_describe_object(1259, g::oid, 0)",
        "(makeaclitem(g::oid, g::oid, 'SELECT', false))::text",
        "to_regclass(g::text)::text",
        "has_table_privilege(g::oid, 'SELECT')::text",
        "pg_relation_size(g::oid)::text",
        "pg_get_viewdef(g::oid)",
        "pg_stat_get_live_tuples(g::oid)::text",
    ],
)
def test_names_of_numbers_cannot_be_listed_through_functions(rivals: tuple[Tenant, Tenant], expression: str) -> None:
    with reader(rivals[0]) as conn, pytest.raises(DENIED):
        conn.execute(f"SELECT {expression} FROM generate_series(16384, 40000) g".encode())


def test_the_loaders_login_keeps_what_it_needs(rivals: tuple[Tenant, Tenant]) -> None:
    """dlt and dbt look names up in the catalogs and by number."""
    with rivals[1].rw.connect() as rw:
        row = rw.execute(
            "SELECT count(*), max(format_type(a.atttypid, a.atttypmod)), max(pg_get_userbyid(c.relowner)),"
            " bool_and(has_table_privilege(c.oid, 'SELECT')), max(to_regclass('rival_visits')::text),"
            " max(obj_description(c.oid, 'pg_class')) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
            " WHERE c.oid = 'rival_visits'::regclass AND a.attnum > 0"
        ).fetchone()
        assert row == (2, "text", rivals[1].rw.user, True, "rival_visits", "RIVAL_COMMENT")
