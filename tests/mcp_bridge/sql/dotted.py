"""Makes statements with `.marked` after rows of every origin, passed on in every way.

For some of them PostgreSQL finds a column, for the others it calls the function `marked`; only PostgreSQL knows which.
"""

import random
import re
from collections.abc import Sequence

NAMES = ("marked", "marked", "marked", "y", "full_name")
# Parts of FROM. `{k}` is their alias, `{r}` a row or a value over what stands before them in FROM, `{q}` a query, `{o}` an
# alias in sight.
SOURCES = """
    patients {k}
    patients as {k}({n})
    patients as {k}({n}, {n2})
    visits {k}
    w {k}
    w as {k}({n})
    (table patients) {k}
    (table w) {k}
    (table patients) as {k}({n})
    ({q}) {k}
    ({q}) as {k}({n})
    ({q} union all {q}) {k}
    lateral ({q}) {k}
    lateral (select {r} as {n}) {k}
    lateral (select {r}) {k}
    lateral (values ({r})) as {k}({n})
    lateral (values ({r}), (null)) {k}
    lateral (values ({o}.*)) {k}
    lateral (values ({o}.*)) as {k}({n})
    lateral (select {o}.*) {k}
    lateral (select ({r}).*) {k}
    generate_series(1, 2) {k}
    generate_series(1, 2) as {k}({n})
    generate_series(1, 2) with ordinality as {k}({n}, {n2})
    rows from (generate_series(1, 2)) as {k}({n})
    rows from (now(), unnest(array[1])) as {k}({n}, {n2})
    now() as {k}({n})
    unnest(array[{r}]) {k}
    unnest(array({q})) {k}
    unnest(array({q})) as {k}({n})
    unnest(array[1], array[{r}]) as {k}({n}, {n2})
    unnest({o}.{n}) {k}
    unnest({o}.{n}) as {k}({n2})
    unnest(array({q})) with ordinality {k}
    coalesce({r}, {r}) as {k}({n})
    unnest(to_tsvector('simple', 'a')) {k}
    unnest(to_tsvector('simple', 'a')) as {k}({n})
    json_each('{"y": 1}') {k}
    json_each('{"y": 1}') as {k}({n})
    json_array_elements('[1]') {k}
    json_array_elements('[1]') as {k}({n})
    jsonb_to_record('{"y": 1}') as {k}({n} int)
    rows from (jsonb_to_record('{"y": 1}') as (y int)) as {k}({n})
    safe_date('2020-01-01') as {k}({n})
    json_table('[1]'::jsonb, '$[*]' columns (nested path '$' columns ({n} int path '$'), {n2} int path '$')) {k}
    json_table('[1]'::jsonb, '$[*]' columns (nested path '$' columns ({n} int path '$'), {n2} int path '$')) as {k}(x)
""".strip().splitlines()
JOINS = """
    {s}
    {s}
    {s}, {s}
    {s} join {s} on true
    {s} cross join {s}
    {s} join {s} using ({n})
    {s} natural join {s}
    ({s} cross join {s}) as {k}({n})
    ({s} join {s} using ({n})) as {k}
    {s} join {s} using ({n}) as {k}
""".strip().splitlines()
# Rows and values over what is in sight.
ROWS = """
    {o}
    {o}.{n}
    {n}
    row({r}, {r})
    row({o}.*)
    row({o}.*, {r})
    ({r}).{n}
    ({o}).{n}
    (row({r}, {r})).f1
    coalesce({r}, {r})
    case when true then {r} end
    case when false then {r} else {r} end
    nullif({r}, {r})
    greatest({r}, {r})
    any_value({r})
    lag({r}) over ()
    first_value({o}) over ()
    (array_agg({r}))[1]
    (array_agg({o}))[1:2]
    (array[{r}])[1]
    array[{r}]
    array_agg({o})
    array({q})
    (array({q}))[1]
    (select {r})
    ({q} limit 1)
    (table patients limit 1)
    1
    (select {o}.*)
    (values ({r}))
    json_each('{"y": 1}')
    max({r})
    ({q} order by ({r}).marked limit 1)
    ({q} union all {q} limit length(({r}).marked::text))
    (values (1), (2) order by (column1).marked limit 1)
    ({r}).marked
""".strip().splitlines()
LEAVES = ("{o}", "{o}", "{o}.{n}", "1")
ENDS = """
    select ({r}).marked::text
    select ({o}).marked::text
    select {o}.marked::text
    select string_agg(({r}).marked::text, '')
    select string_agg({o}.marked::text, '')
    select (({o}).{n}).marked::text
    select (({r}).{n}).marked::text
    select max({o}.marked::text) over (order by ({o}).marked)
""".strip().splitlines()
WITHS = """
    with w as ({q})
    with w({n}) as ({q})
    with recursive w({n}) as ({q} union all select {n} from w where false)
    with w as ({q}), patients as (table w)
    with patients as ({q}), w as (table patients)
""".strip().splitlines()
QUERIES = ("select {r} as {n}", "select {r} as {n}", "select {r}", "select {o}.*", "select {o} as {n}")
_READS_WITH = re.compile(r"\s*(w |\(table w)")
_BLANK = re.compile(r"\{(s|q|r|o|k|n|n2)\}")


class Dotted:
    """The same `seed` gives the same statements."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._aliases = 0
        self._has_with = False

    def statement(self) -> str:
        self._aliases = 0
        self._has_with = False
        before = self._filled(self._pick(WITHS, []), 1, [])
        self._has_with = True
        from_, aliases = self._from(2, [])
        return f"{before} {self._filled(self._pick(ENDS, aliases), 2, aliases)} from {from_}"

    def _query(self, depth: int, outer: list[str]) -> str:
        from_, aliases = self._from(depth, outer)
        made = self._filled(self._pick(QUERIES, aliases), depth, aliases + outer)
        return f"{made} from {from_}"

    def _from(self, depth: int, outer: list[str]) -> tuple[str, list[str]]:
        """A FROM clause and the aliases that it makes visible; `outer` are those of the outer queries."""
        aliases: list[str] = []

        def source(_blank: re.Match[str]) -> str:
            alias = self._alias()
            seen = [*aliases, *outer]
            made = self._filled(self._pick(SOURCES if depth > 0 else SOURCES[:6], seen), depth - 1, seen, alias)
            aliases.append(alias)
            return made

        shape = re.sub(r"\{s\}", source, self._random.choice(JOINS))
        if "{k}" in shape:
            alias = self._alias()
            aliases = [alias] if ") as {k}" in shape and not shape.endswith("using ({n}) as {k}") else [*aliases, alias]
            shape = shape.replace("{k}", alias)
        return self._filled(shape, 0, aliases), aliases

    def _filled(self, shape: str, depth: int, seen: list[str], alias: str = "") -> str:
        def fill(blank: re.Match[str]) -> str:
            kind = blank[1]
            if kind == "q":
                return self._query(depth - 1, seen)
            if kind == "r":
                return self._filled(self._pick(ROWS if depth > 0 else LEAVES, seen), depth - 1, seen)
            if kind == "o":
                return self._random.choice(seen)
            return alias if kind == "k" else self._random.choice(NAMES)

        return _BLANK.sub(fill, shape)

    def _pick(self, shapes: Sequence[str], seen: list[str]) -> str:
        """One that speaks of nothing that is not there."""
        fitting = [
            shape
            for shape in shapes
            if (seen or "{o}" not in shape) and (self._has_with or not _READS_WITH.match(shape))
        ]
        return self._random.choice(fitting).strip()

    def _alias(self) -> str:
        self._aliases += 1
        return self._random.choice((f"a{self._aliases}", f"a{self._aliases}", f"a{self._aliases}", "marked"))
