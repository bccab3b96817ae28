with

forms as (

    select form_id, form from {{ ref('stg_forms') }}

),

-- Case blocks lie at any depth, alone or in lists. Version 1 blocks have case_id and date_modified as elements instead of attributes.
blocks as (

    select
        forms.form_id,
        block.value,
        coalesce(block.value ->> '@case_id', block.value ->> 'case_id') as case_id
    from forms
    cross join lateral jsonb_path_query(
        forms.form,
        'strict $.** ? (@.type() == "object" && (exists(@."@case_id") || (exists(@."case_id") && exists(@."date_modified"))))'
    ) as block (value)

),

-- An action arrives as an object, as '' or as null when it had no content. A block without any action still touches its case: an update.
actions as (

    select distinct
        blocks.form_id,
        blocks.case_id,
        action.name as action
    from blocks
    cross join lateral (
        values
            ('create', blocks.value ? 'create'),
            ('close', blocks.value ? 'close'),
            ('index', jsonb_typeof(blocks.value -> 'index') = 'object'),
            ('update', jsonb_typeof(blocks.value -> 'update') = 'object' or not blocks.value ?| array['create', 'close', 'index'])
    ) as action (name, is_present)
    where action.is_present and blocks.case_id <> ''

)

select * from actions
