{#- Case properties with a date on which something is due. -#}
{%- set due_properties = "array['" ~ var('follow_up_properties') | join("', '") ~ "']" -%}

with

due_cases as (

    select
        case_id,
        case_type,
        owner_id,
        owner_kind,
        owner_name,
        closed
    from {{ source('commcare', 'cases') }}
    where properties ?| {{ due_properties }}

),

forms as (

    select * from {{ source('commcare', 'forms') }}

),

form_cases as (

    select * from {{ source('commcare', 'form_cases') }}

),

visits as (

    select * from {{ ref('visits') }}
    where not archived

),

-- The blocks of submissions that wrote to such cases. `path` leaves out positions in lists, which a lax JSON path does not need.
blocks as (

    select
        visits.case_id,
        visits.form_id,
        visits.user_id,
        visits.finished_at,
        form_cases.block_index,
        block.position,
        -- An update of nothing is an empty text.
        case when jsonb_typeof(block.value -> 'update') = 'object' then block.value -> 'update' else '{}' end as written
    from form_cases
    inner join due_cases on form_cases.case_id = due_cases.case_id
    inner join visits on form_cases.case_id = visits.case_id and form_cases.form_id = visits.form_id
    inner join forms on form_cases.form_id = forms.form_id
    cross join lateral jsonb_path_query(
        forms.form,
        ('lax $.' || replace(to_json(form_cases.path)::text, '/', '"."') || '[*]')::jsonpath
    ) with ordinality as block (value, position)
    where
        form_cases.action = 'update'
        and coalesce(block.value ->> '@case_id', block.value ->> 'case_id') = form_cases.case_id

),

-- What each submission wrote; where several of its blocks did, the last one counts. An empty value takes the date back.
written as (

    select distinct on (blocks.case_id, answer.property, blocks.form_id)
        blocks.case_id,
        answer.property,
        blocks.form_id,
        blocks.user_id,
        blocks.finished_at,
        casts.safe_date(coalesce(answer.value ->> '#text', answer.value #>> '{}')) as due_on
    from blocks
    cross join lateral jsonb_each(blocks.written) as answer (property, value)
    where answer.property = any({{ due_properties }})
    order by blocks.case_id, answer.property, blocks.form_id, blocks.block_index desc, blocks.position desc

),

compared as (

    select
        *,
        lag(due_on) over (partition by case_id, property order by finished_at, form_id) as due_before
    from written

),

-- Submissions often write all properties again: only another value is news.
changes as (

    select
        *,
        lead(finished_at) over (partition by case_id, property order by finished_at, form_id) as replaced_at
    from compared
    where due_on is distinct from due_before

),

expected as (

    select * from changes
    where due_on is not null

),

-- The first visit after the date was set that is not too early for it, up to the one that set another date.
done as (

    select distinct on (expected.case_id, expected.property, expected.form_id)
        expected.case_id,
        expected.property,
        expected.form_id,
        visits.form_id as done_form_id,
        visits.user_id as done_user_id,
        visits.finished_day as done_on
    from expected
    inner join visits
        on expected.case_id = visits.case_id
        and visits.form_id <> expected.form_id
        and visits.finished_at >= expected.finished_at
        and visits.finished_at <= coalesce(expected.replaced_at, 'infinity')
        and visits.finished_day >= expected.due_on - {{ var('follow_up_early_days') }}
    order by expected.case_id, expected.property, expected.form_id, visits.finished_at, visits.form_id

),

joined as (

    select
        expected.case_id,
        expected.property,
        expected.form_id,
        due_cases.case_type,
        due_cases.owner_id,
        due_cases.owner_kind,
        due_cases.owner_name,
        expected.user_id as set_by_user_id,
        expected.finished_at as set_at,
        expected.due_on,
        done.done_on,
        done.done_form_id,
        done.done_user_id,
        done.done_on is not null as is_done,
        done.done_on - expected.due_on as days_late,
        case
            when done.done_on is not null then 'done'
            when expected.replaced_at is not null then 'replaced'
            when due_cases.closed then 'closed'
            else 'open'
        end as status
    from expected
    inner join due_cases on expected.case_id = due_cases.case_id
    left join done
        on expected.case_id = done.case_id
        and expected.property = done.property
        and expected.form_id = done.form_id

)

select * from joined
