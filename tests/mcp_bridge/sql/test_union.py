"""The union of generated tables, as the written WITH query gives it, against the union computed by hand; on the real server."""

from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from mcp_bridge.sql import Arm, LiveColumn, QueryRejected, around, names_of, union, validate

# A type, and values of it by PostgreSQL's own text of them.
VALUES = {
    "text": ["a", "", "it's", 'q"'],
    "character varying(5)": ["abc", "x"],
    "character(3)": ["abc"],
    "integer": ["1", "-7"],
    "bigint": ["4000000000"],
    "smallint": ["3"],
    "numeric": ["1.50"],
    "numeric(10,2)": ["2.25"],
    "boolean": ["true"],
    "date": ["2026-02-03"],
    "timestamp with time zone": ["2026-02-03 04:05:06+00"],
    "text[]": ["{a,b}"],
    "jsonb": ['{"a": 1}'],
}
NUMBERS = ["smallint", "integer", "bigint", "numeric"]
COLUMNS = ["id", "tenant", "own_tenant", "Name", "a b", 'q"x', "select", "age"]
Table = dict[str, tuple[str, str | None]]
tables = st.dictionaries(
    st.sampled_from(COLUMNS),
    st.sampled_from(sorted(VALUES)).flatmap(
        lambda type_: st.tuples(st.just(type_), st.none() | st.sampled_from(VALUES[type_]))
    ),
    min_size=1,
    max_size=5,
)


@pytest.fixture(scope="module")
def server(connections: Any) -> Any:
    with connections.admin.connect(autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'")
        yield connection


def base(type_: str) -> str:
    return type_.split("(")[0] if "with" not in type_ else type_


def by_hand(tables: list[Table]) -> tuple[list[str], dict[str, str]]:
    """Columns in order, and the type that each must have."""
    order = list(dict.fromkeys(name for table in tables for name in table))
    found = {}
    for name in order:
        types = {table[name][0] for table in tables if name in table}
        bases = {base(type_) for type_ in types}
        if len(types) == 1:
            found[name] = types.pop()
        elif bases <= set(NUMBERS):
            found[name] = max(bases, key=NUMBERS.index)
        else:
            found[name] = "text"
    return order, found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(tables, min_size=1, max_size=4))
def test_a_union_is_what_is_computed_by_hand(server: psycopg.Connection, tables: list[Table]) -> None:
    order, types = by_hand(tables)
    with server.transaction(force_rollback=True):
        arms, expected = [], []
        for number, table in enumerate(tables):
            schema, key = f"u{number}", f"demo:t{number}"
            server.execute(f"CREATE SCHEMA {schema}".encode())
            columns = sql.SQL(", ").join(
                sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(type_))
                for name, (type_, _) in table.items()  # type: ignore[arg-type]
            )
            server.execute(sql.SQL("CREATE TABLE {}.cases ({})").format(sql.Identifier(schema), columns))
            values = [value for _, value in table.values()]
            marks = sql.SQL(", ").join([sql.Placeholder()] * len(values))
            server.execute(sql.SQL("INSERT INTO {}.cases VALUES ({})").format(sql.Identifier(schema), marks), values)
            arms.append(Arm(key, schema, "cases", {n: LiveColumn(n, t) for n, (t, _) in table.items()}))
            # Each value by itself, in its own column's type, then in the union's: by the server's casts, one at a time.
            row = []
            for name in order:
                type_, value = table.get(name, (types[name], None))
                found = server.execute(f"SELECT (%s::{type_})::{types[name]}::text".encode(), [value]).fetchone()
                assert found is not None
                row.append(found[0])
            expected.append((key, *row))
        names = names_of([list(table) for table in tables])
        assert list(names.values()) == order
        assert "tenant" not in names
        assert len(set(names)) == len(order)
        made = union("cases", names, arms)
        assert {column.source: column.type for column in made.columns} == types
        query = validate("SELECT * FROM cases", schemas=frozenset(), relations={"": {"cases": ("tenant", *names)}})
        cursor = server.execute(around(query, [made]).whole.encode())
        assert cursor.description is not None
        assert [column.name for column in cursor.description] == ["tenant", *names]
        shown = ", ".join(f"c{number}::text" for number in range(len(order) + 1))
        aliases = ", ".join(f"c{number}" for number in range(len(order) + 1))
        rows = server.execute(
            f"SELECT {shown} FROM ({around(query, [made]).whole}) AS q({aliases})".encode()
        ).fetchall()
        assert sorted(rows, key=str) == sorted(expected, key=str)


STATEMENTS: list[tuple[str, list[Any]]] = [
    ("SELECT tenant, case_id FROM cases ORDER BY tenant DESC", [("demo:b", "b1"), ("demo:a", "a1")]),
    ("SELECT count(*) FROM cases WHERE tenant = 'demo:a' -- the end", [(1,)]),
    ("TABLE cases ORDER BY 1 LIMIT 1", [("demo:a", "a1", 7)]),
    ("VALUES (1), (2)", [(1,), (2,)]),
    # The caller's own WITH query of the same name hides ours from there on, and reads ours within itself.
    ("WITH cases AS (SELECT case_id FROM cases WHERE tenant = 'demo:b') SELECT * FROM cases", [("b1",)]),
    ("WITH cases AS (SELECT 1 AS x) SELECT x FROM cases", [(1,)]),
    ("SELECT x FROM (WITH cases AS (SELECT 5 AS x) SELECT x FROM cases) s, cases WHERE tenant = 'demo:a'", [(5,)]),
    (
        "WITH RECURSIVE up(n, who) AS (SELECT 1, case_id FROM cases UNION ALL SELECT n + 1, who FROM up WHERE n < 2)"
        " SELECT n, who FROM up ORDER BY 1, 2",
        [(1, "a1"), (1, "b1"), (2, "a1"), (2, "b1")],
    ),
    ('SELECT "cases"."case_id" FROM "cases" AS "cases" WHERE "cases".tenant = \'demo:a\'', [("a1",)]),
    ("SELECT a.case_id, b.case_id FROM cases a JOIN cases b ON a.age = b.age AND a.tenant < b.tenant", [("a1", "b1")]),
    ("SELECT case_id, case_id FROM cases ORDER BY 1 LIMIT 1", [("a1", "a1")]),
    ("SELECT 'x' FROM cases UNION ALL SELECT case_id FROM cases ORDER BY 1 DESC LIMIT 2", [("x",), ("x",)]),
]


@pytest.mark.parametrize(("text", "rows"), STATEMENTS, ids=[text[:50] for text, _ in STATEMENTS])
def test_a_statement_keeps_its_meaning_inside(server: psycopg.Connection, text: str, rows: list[Any]) -> None:
    with server.transaction(force_rollback=True):
        arms = []
        for schema, case in (("a", "a1"), ("b", "b1")):
            server.execute(f"CREATE SCHEMA s_{schema}".encode())
            server.execute(f"CREATE TABLE s_{schema}.cases AS SELECT '{case}'::text AS case_id, 7 AS age".encode())
            columns = {"case_id": LiveColumn("case_id", "text"), "age": LiveColumn("age", "integer")}
            arms.append(Arm(f"demo:{schema}", f"s_{schema}", "cases", columns))
        names = names_of([["case_id", "age"]])
        query = validate(text, schemas=frozenset(), relations={"": {"cases": ("tenant", *names)}})
        unions = [union("cases", names, arms)] if query.tables else []
        assert server.execute(around(query, unions).whole.encode()).fetchall() == rows


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM s_a.cases",
        "SELECT s_a.cases.case_id FROM cases",
        'SELECT * FROM ""."cases"',
        'SELECT * FROM "".cases',
        "SELECT 1) SELECT * FROM s_a.cases --",
        "SELECT * FROM cases) AS q, s_a.cases --",
        "SELECT 1; SELECT 2",
        "WITH x AS (DELETE FROM cases RETURNING 1) SELECT * FROM x",
        "SELECT * FROM pg_class",
        "SELECT (cases).tenant.x FROM cases",
        "SELECT ctid FROM cases",
    ],
)
def test_what_leads_out_of_the_unions_is_refused(text: str) -> None:
    with pytest.raises(QueryRejected):
        validate(text, schemas=frozenset(), relations={"": {"cases": ("tenant", "case_id")}})


def test_conditions_reach_the_tables(server: psycopg.Connection) -> None:
    """The plan of a statement that is about one tenant reads the other's table not at all."""
    with server.transaction(force_rollback=True):
        arms = []
        for schema in ("a", "b"):
            server.execute(f"CREATE SCHEMA s_{schema}".encode())
            server.execute(f"CREATE TABLE s_{schema}.cases AS SELECT 'c'::text AS case_id".encode())
            arms.append(Arm(f"demo:{schema}", f"s_{schema}", "cases", {"case_id": LiveColumn("case_id", "text")}))
        names = names_of([["case_id"]])
        query = validate(
            "SELECT count(*) FROM cases x JOIN cases y USING (tenant) WHERE tenant = 'demo:a'",
            schemas=frozenset(),
            relations={"": {"cases": ("tenant", "case_id")}},
        )
        plan = server.execute(
            f"EXPLAIN (VERBOSE) {around(query, [union('cases', names, arms)]).whole}".encode()
        ).fetchall()
        assert "s_a.cases" in str(plan)
        assert "s_b.cases" not in str(plan)
