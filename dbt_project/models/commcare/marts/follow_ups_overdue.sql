with

follow_ups as (

    select * from {{ ref('follow_ups') }}
    where status = 'open'

),

today as (

    select (now() at time zone '{{ var("timezone") }}')::date as today

),

overdue as (

    select
        follow_ups.case_id,
        follow_ups.property,
        follow_ups.form_id,
        follow_ups.case_type,
        follow_ups.owner_id,
        follow_ups.owner_kind,
        follow_ups.owner_name,
        follow_ups.set_by_user_id,
        follow_ups.due_on,
        today.today - follow_ups.due_on as days_overdue
    from follow_ups
    cross join today
    where follow_ups.due_on < today.today

)

select * from overdue
