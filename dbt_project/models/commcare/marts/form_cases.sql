with recursive

-- What leads to a case block, from the root of each submission down: objects and arrays that are called `case` or hold one that is, at
-- any depth. `positions` goes along with `path`: the position of what came in an array, else 1.
walk as (

    select
        forms.form_id,
        forms.xmlns,
        array[field.key] as path,
        array[1::bigint] as positions,
        false as is_item,
        field.value as node
    from {{ ref('stg_forms') }} as forms
    cross join lateral jsonb_each(forms.form) as field (key, value)
    where
        {{ is_wanted('form_id') }}
        and jsonb_typeof(field.value) in ('object', 'array')
        and (field.key = 'case' or {{ holds_block('field.value') }})

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
        from jsonb_each({{ json_object('walk.node') }}) as field (key, value)
        where jsonb_typeof(field.value) in ('object', 'array') and (field.key = 'case' or {{ holds_block('field.value') }})

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
        from jsonb_array_elements({{ json_array('walk.node') }}) with ordinality as item (value, position)
        where
            jsonb_typeof(item.value) in ('object', 'array')
            and (walk.path[cardinality(walk.path)] = 'case' or {{ holds_block('item.value') }})

    ) as child

),

-- The server takes for a case block what is called `case`, at any depth, alone or in a list, and has an id: an attribute, in version 1
-- an element. Ledgers and other elements with ids of their own are none. An action without content arrives as '', null or {}: only
-- `close` needs none.
found as (

    select
        walk.form_id,
        walk.xmlns,
        walk.path,
        walk.positions,
        coalesce(walk.node ->> '@case_id', walk.node ->> 'case_id') as case_id,
        {{ json_object("walk.node -> 'create'") }} <> '{}' as creates,
        {{ json_object("walk.node -> 'update'") }} <> '{}' as updates,
        {{ json_object("walk.node -> 'index'") }} <> '{}' as links,
        walk.node ? 'close' as closes
    from walk
    where
        walk.path[cardinality(walk.path)] = 'case'
        and jsonb_typeof(walk.node) = 'object'
        and coalesce(walk.node ->> '@case_id', walk.node ->> 'case_id') <> ''

),

blocks as (

    select
        found.form_id,
        found.xmlns,
        found.path,
        found.case_id,
        found.positions,
        found.creates,
        found.updates,
        found.links,
        found.closes,
        row_number() over (partition by found.form_id order by found.path, found.positions) as block_index
    from found

),

-- How deep the repeat groups lie that a block stands in.
repeats as (

    select
        places.xmlns,
        places.path,
        array_agg(cardinality(known.path) order by cardinality(known.path)) as depths
    from (select distinct found.xmlns, found.path from found) as places
    inner join {{ bookkeeping('repeats') }} as known
        on places.xmlns = known.xmlns
        and places.path[1:cardinality(known.path)] = known.path
        and cardinality(known.path) < cardinality(places.path)
    group by 1, 2

),

-- A block without any action still touches its case: an update.
actions as (

    select
        blocks.form_id,
        blocks.case_id,
        action.name as action,
        blocks.block_index,
        array_to_string(blocks.path, '/') as path,
        case
            when repeats.depths is not null then (
                select concat_ws('-', blocks.form_id, string_agg(blocks.positions[each.depth]::text, '-' order by each.depth))
                from unnest(repeats.depths) as each (depth)
            )
        end as repeat_id
    from blocks
    left join repeats on blocks.xmlns = repeats.xmlns and blocks.path = repeats.path
    cross join lateral (
        values
            ('create', blocks.creates),
            ('close', blocks.closes),
            ('index', blocks.links),
            ('update', blocks.updates or not (blocks.creates or blocks.closes or blocks.links))
    ) as action (name, is_present)
    where action.is_present

)

select * from actions
