"""Makes statements that could keep a backend busy where it checks for no cancel: every allowed function and operator of
PostgreSQL's catalogs, over large arguments made in every possible way.
"""

import random
from collections.abc import Iterator

from mcp_bridge.sql.validation.allowlist import FUNCTIONS, OPERATORS

SIZES = (500, 8_000, 60_000, 1_000_000, 20_000_000)
# Ways to a text of about {n} characters.
TEXTS = (
    "repeat('a', {n})",
    "repeat('a', {n}) || 'b'",
    "'b' || repeat('a', {n})",
    "lpad('b', {n}, 'a')",
    "rpad('', {n}, 'ab')",
    "format('%{n}s', 'a')",
    "repeat(U&'\\0315\\0300', {n} / 2)",
    "repeat('[', {n} / 2) || repeat(']', {n} / 2)",
    "repeat('a%', {n} / 2)",
    "repeat('1 ', {n} / 2)",
    "repeat('YYYY ', {n} / 5)",
    "replace(repeat('a', {n} / 100), 'a', repeat('b', 100))",
    "array_to_string(array_fill('a'::text, array[{n}]), '')",
    "(select string_agg('aaaaaaaa', '') from generate_series(1, {n} / 8))",
    "(select string_agg(full_name, '') from patients, generate_series(1, {n} / 80))",
    "(select jsonb_agg(g)::text from generate_series(1, {n} / 8) g)",
    "(with recursive r(t) as (select 'a'::text union all select t || t from r where length(t) < {n}) select max(t) from r)",
)
ARRAYS = (
    "array_fill(1, array[{n}])",
    "(select array_agg(g) from generate_series(1, {n}) g)",
    "array(select g from generate_series(1, {n}) g)",
    "array(select -g from generate_series(1, {n}) g)",
)
OTHERS = {
    "text[]": (
        "string_to_array({text}, 'a')", "array_fill('a'::text, array[{n}])",
        "array(select md5(g::text) from generate_series(1, {n} / 40) g)",
    ),
    "jsonb": ("(select jsonb_agg(g) from generate_series(1, {n} / 8) g)", "to_jsonb({array})", "jsonb_build_object('a', {text})"),
    "json": ("to_json({array})", "(select json_agg(g) from generate_series(1, {n} / 8) g)"),
    "bytea": ("convert_to({text}, 'UTF8')", "({text})::bytea", "decode(repeat('00', {n}), 'hex')"),
    "bit varying": ("repeat('1', {n})::varbit", "(repeat('0', {n}) || '1')::varbit"),
    "bit": ("repeat('1', {n})::varbit",),
    "numeric": ("repeat('7', least({n}, 100000))::numeric", "power(7::numeric, 150000)", "factorial(20000)"),
    "tsvector": ("to_tsvector({text})", "array_to_tsvector(array(select md5(g::text) from generate_series(1, {n} / 40) g))"),
    "tsquery": ("plainto_tsquery({text})", "phraseto_tsquery(repeat('a b ', {n} / 4))"),
    "jsonpath": ("'$[*] ? (@ == $[*])'", "'$.**'"),
    "int4multirange": ("(select range_agg(int4range(2 * g, 2 * g + 1)) from generate_series(1, {n} / 16) g)",),
}  # fmt: skip
SCALARS = {
    "integer": ("1", "{n}"), "bigint": ("1", "{n}"), "boolean": ("true",), "double precision": ("1.5",), "name": ("'UTF8'",),
    "timestamp with time zone": ("now()",), "interval": ("interval '1 day'",), "real": ("1",), "smallint": ("1::smallint",),
}  # fmt: skip
SIGNATURES = """
    SELECT p.proname::text, p.proargtypes::oid[]::regtype[]::text[] FROM pg_proc p
     WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY(%s) AND p.prokind = 'f' AND p.pronargs BETWEEN 1 AND 4
     ORDER BY p.oid
"""
OPERANDS = """
    SELECT o.oprname::text, ARRAY[o.oprleft::regtype::text, o.oprright::regtype::text] FROM pg_operator o
     WHERE o.oprname = ANY(%s) AND o.oprleft <> 0 AND o.oprnamespace = 'pg_catalog'::regnamespace ORDER BY o.oid
"""


class Bombs:
    """`connection` is one that reads the catalogs; the same `seed` gives the same statements."""

    def __init__(self, connection, seed: int) -> None:  # type: ignore[no-untyped-def]
        self._random = random.Random(seed)
        calls = connection.execute(SIGNATURES, [sorted(FUNCTIONS)]).fetchall()
        uses = connection.execute(OPERANDS, [sorted(OPERATORS)]).fetchall()
        self.calls = [(name, types) for name, types in calls if self._makeable(types)]
        self.uses = [(name, types) for name, types in uses if self._makeable(types)]

    def _makeable(self, types: list[str]) -> bool:
        """Whether arguments of these types can be made, and one of them can be large."""
        made = [self.argument(type_, 1000) for type_ in types]
        return all(made) and any(type_ not in SCALARS for type_ in types)

    def argument(self, type_: str, size: int) -> str | None:
        """An expression of the type, of about `size` bytes; None where there is no way to one."""
        pick, n = self._random.choice, str(size)
        if type_ in ("text", "character", "character varying"):
            return pick(TEXTS).replace("{n}", n)
        if type_.startswith("any") or type_ == '"any"':
            return pick(ARRAYS if "array" in type_ or self._random.random() < 0.5 else TEXTS).replace("{n}", n)
        for made in (OTHERS, SCALARS):
            if type_ in made:
                expression = pick(made[type_])
                expression = expression.replace("{text}", pick(TEXTS)).replace("{array}", pick(ARRAYS))
                return expression.replace("{n}", n)
        return pick(ARRAYS).replace("{n}", n) if type_ == "integer[]" else None

    def statements(self) -> Iterator[str]:
        """Without end: calls and operators over arguments of mixed sizes, plainly, from subqueries, from WITH queries, nested."""
        while True:
            expression, arguments = self._expression()
            yield self._shaped(expression, arguments)

    def _expression(self) -> tuple[str, list[str]]:
        if self._random.random() < 0.25:
            name, types = self._random.choice(self.uses)
            return f"{{}} {name} {{}}", self._arguments(types)
        name, types = self._random.choice(self.calls)
        return f'"{name}"({", ".join("{}" for _ in types)})', self._arguments(types)

    def _arguments(self, types: list[str]) -> list[str]:
        return [str(self.argument(type_, self._random.choice(SIZES))) for type_ in types]

    def _shaped(self, expression: str, arguments: list[str]) -> str:
        shape = self._random.randrange(4)
        whole = expression.format(*(f"({argument})" for argument in arguments))
        if shape == 0:
            return f"select pg_column_size({whole})"
        if shape == 1:
            return f"select count(*) from patients where ({whole}) is not null"
        names = [f"q{number}" for number, _ in enumerate(arguments)]
        by_name = expression.format(*(f"{name}.x" for name in names))
        if shape == 2:
            tables = ", ".join(
                f"(select {argument} as x) {name}" for name, argument in zip(names, arguments, strict=True)
            )
            return f"select pg_column_size({by_name}) from {tables}"
        queries = ", ".join(
            f"{name} as materialized (select {argument} as x)" for name, argument in zip(names, arguments, strict=True)
        )
        return f"with {queries} select pg_column_size({by_name}) from {', '.join(names)}"
