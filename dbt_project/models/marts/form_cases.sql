with

forms as (

    select form_id, form from {{ ref('stg_forms') }}
    where {{ is_wanted('form_id') }}

),

-- The server takes for a case block what is called `case`, at any depth, alone or in a list, and has an id: an attribute, in version 1
-- an element. Ledgers and other elements with ids of their own are none.
found as (

    select
        forms.form_id,
        node.value
    from forms
    cross join lateral jsonb_path_query(forms.form, 'strict $.** ? (@.type() == "object" && exists(@."case"))."case"') as node (value)

),

blocks as (

    select
        found.form_id,
        block.value,
        coalesce(block.value ->> '@case_id', block.value ->> 'case_id') as case_id
    from found
    cross join lateral jsonb_array_elements(
        case when jsonb_typeof(found.value) = 'array' then found.value else jsonb_build_array(found.value) end
    ) as block (value)
    where jsonb_typeof(block.value) = 'object'

),

-- An action without content arrives as '', null or {}: only `close` needs none. A block without any action still touches its case: an update.
actions as (

    select distinct
        blocks.form_id,
        blocks.case_id,
        action.name as action
    from blocks
    cross join lateral (
        select
            {{ json_object("blocks.value -> 'create'") }} <> '{}' as creates,
            {{ json_object("blocks.value -> 'update'") }} <> '{}' as updates,
            {{ json_object("blocks.value -> 'index'") }} <> '{}' as links,
            blocks.value ? 'close' as closes
    ) as done
    cross join lateral (
        values
            ('create', done.creates),
            ('close', done.closes),
            ('index', done.links),
            ('update', done.updates or not (done.creates or done.closes or done.links))
    ) as action (name, is_present)
    where action.is_present and blocks.case_id <> ''

)

select * from actions
