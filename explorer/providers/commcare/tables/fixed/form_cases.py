"""What is in `form_cases`: where in submissions do case blocks stand, and what do they do?"""

from collections.abc import Collection

from explorer.contract.bookkeeping.lineage import Origin
from explorer.providers.commcare.tables.fixed.columns import (
    PRESENT,
    as_json,
    object_or_empty,
    table,
    unchanged,
    unpacked,
)
from explorer.tables.sql_text import literal, text_array
from explorer.tables.values import Parent, Path, Rows, TableSpec

RepeatGroup = tuple[str, Path]
"""xmlns of the form, and path of the group within it, as PostgreSQL can hold them."""

_ORIGIN = Origin("raw_forms", "record", ("form",))


def _holds_block(json: str) -> str:
    """Whether a JSON value contains a key `case` at any depth."""
    return f"""jsonb_path_exists({json}, 'lax $.**."case"')"""


def _is_there(field: str) -> str:
    return f"jsonb_typeof({field}) in ('object', 'array')"


_SUBMITTED = f"""select
    form_id,
    nullif(record #>> '{{form,@xmlns}}', '') as xmlns,
    {object_or_empty(as_json(("form",)))} as form
from unpacked
offset 0"""  # noqa: S608 - only literals of this module

# What leads to a case block, from the root of each submission down: objects and arrays that are called `case` or hold one that
# is, at any depth. `positions` goes along with `path`: the position of what came in an array, else 1.
_WALK = f"""select
    submitted.form_id,
    submitted.xmlns,
    array[field.key] as path,
    array[1::bigint] as positions,
    false as is_item,
    field.value as node
from submitted
cross join lateral jsonb_each(submitted.form) as field (key, value)
where {_is_there("field.value")} and (field.key = 'case' or {_holds_block("field.value")})

union all

select
    walk.form_id,
    walk.xmlns,
    child.path,
    child.positions,
    child.is_item,
    child.node
from walk
cross join lateral (

    select
        walk.path || field.key as path,
        walk.positions || 1::bigint as positions,
        false as is_item,
        field.value as node
    from jsonb_each(case when jsonb_typeof(walk.node) = 'object' then walk.node else '{{}}'::jsonb end) as field (key, value)
    where {_is_there("field.value")} and (field.key = 'case' or {_holds_block("field.value")})

    union all

    -- An array within an array is part of the repetition that the outer one is.
    select
        walk.path,
        case
            when walk.is_item then walk.positions
            else walk.positions[1:cardinality(walk.positions) - 1] || item.position
        end as positions,
        true as is_item,
        item.value as node
    from jsonb_array_elements(case when jsonb_typeof(walk.node) = 'array' then walk.node else '[]'::jsonb end)
        with ordinality as item (value, position)
    where {_is_there("item.value")} and (walk.path[cardinality(walk.path)] = 'case' or {_holds_block("item.value")})

) as child"""  # noqa: S608 - only literals of this module

# The server takes for a case block what is called `case`, at any depth, alone or in a list, and has an id: an attribute, in
# version 1 an element. Ledgers and other elements with ids of their own are none. An action without content arrives as '', null
# or {}: only `close` needs none.
_BLOCKS = f"""select
    walk.form_id,
    walk.xmlns,
    walk.path,
    walk.positions,
    coalesce(walk.node ->> '@case_id', walk.node ->> 'case_id') as case_id,
    {object_or_empty("walk.node -> 'create'")} <> '{{}}' as creates,
    {object_or_empty("walk.node -> 'update'")} <> '{{}}' as updates,
    {object_or_empty("walk.node -> 'index'")} <> '{{}}' as links,
    walk.node ? 'close' as closes,
    row_number() over (partition by walk.form_id order by walk.path, walk.positions) as block_index
from walk
where
    walk.path[cardinality(walk.path)] = 'case'
    and jsonb_typeof(walk.node) = 'object'
    and coalesce(walk.node ->> '@case_id', walk.node ->> 'case_id') <> ''"""  # noqa: S608 - only literals of this module

# How deep the repeat groups lie that a block stands in.
_DEPTHS = """select
    places.xmlns,
    places.path,
    array_agg(cardinality(repeats.path) order by cardinality(repeats.path)) as depths
from (select distinct xmlns, path from blocks) as places
inner join repeats
    on places.xmlns = repeats.xmlns
    and places.path[1:cardinality(repeats.path)] = repeats.path
    and cardinality(repeats.path) < cardinality(places.path)
group by 1, 2"""

# A block without any action still touches its case: an update.
_ACTIONS = """select
    blocks.form_id,
    blocks.case_id,
    action.name as action,
    blocks.block_index,
    array_to_string(blocks.path, '/') as path,
    case
        when depths.depths is not null then (
            select concat_ws('-', blocks.form_id, string_agg(blocks.positions[each.depth]::text, '-' order by each.depth))
            from unnest(depths.depths) as each (depth)
        )
    end as repeat_id
from blocks
left join depths on blocks.xmlns = depths.xmlns and blocks.path = depths.path
cross join lateral (
    values
        ('create', blocks.creates),
        ('close', blocks.closes),
        ('index', blocks.links),
        ('update', blocks.updates or not (blocks.creates or blocks.closes or blocks.links))
) as action (name, is_present)
where action.is_present"""


def form_cases(repeats: Collection[RepeatGroup]) -> TableSpec:
    """The table for a project space whose forms have these repeat groups.

    The array positions of a case block are those of repetitions, or only of blocks in a list. The data alone cannot tell, since
    a single repetition is an object.
    """
    queries = (
        unpacked("form_id"),
        ("submitted", _SUBMITTED),
        ("walk", _WALK),
        ("blocks", _BLOCKS),
        ("repeats", _listed(repeats)),
        ("depths", _DEPTHS),
        ("actions", _ACTIONS),
    )
    return table(
        "form_cases",
        "One row per case block of a form submission and action: which submission created, updated, closed or linked which"
        " case, and where in the submission that stands. A case that several blocks of a submission touch has rows for each"
        " of them.",
        (
            unchanged("form_id", "text", "The submission."),
            unchanged("case_id", "text", "The case it touched.", _ORIGIN),
            unchanged(
                "action",
                "text",
                "What it did to the case: create, update, close or index (a relation to another case set or removed); update"
                " also stands for a block without content.",
                _ORIGIN,
            ),
            unchanged(
                "block_index",
                "bigint",
                "Number of the block within the submission, from 1; with form_id and action the key of this table.",
                _ORIGIN,
            ),
            unchanged(
                "path",
                "text",
                "Where the block stands in the form: keys from the root down to it, the last of which is case, joined by /;"
                " positions in repeat groups are left out.",
                _ORIGIN,
            ),
            unchanged(
                "repeat_id",
                "text",
                "The repetition that the block stands in, the innermost one: repeat_id of the table of that repeat group;"
                " NULL outside of repeat groups.",
                _ORIGIN,
            ),
        ),
        Rows("raw_forms", "form_id", PRESENT, queries, is_recursive=True),
        key=("form_id", "block_index", "action"),
        inputs={"raw_forms"},
        parents=(Parent(("form_id",), "forms", "form_id"), Parent(("case_id",), "cases", "case_id")),
    )


def _listed(repeats: Collection[RepeatGroup]) -> str:
    """SQL of rows with the form and the path of each repeat group."""
    if not repeats:
        return "select null::text as xmlns, null::text[] as path where false"
    rows = ",\n    ".join(f"({literal(xmlns)}::text, {text_array(path)})" for xmlns, path in sorted(repeats))
    return f"select *\nfrom (values\n    {rows}\n) as known (xmlns, path)"
