with

-- Values instead of NULL in the keys: two sets of groups are joined below.
keyed as not materialized (

    select
        form_id,
        coalesce((received_on at time zone 'UTC')::date, '-infinity') as day,
        coalesce(xmlns, '') as xmlns,
        coalesce(user_id, '') as user_id,
        form_name,
        username,
        archived,
        time_start,
        time_end,
        received_on
    from {{ ref('forms') }}

),

submitted as (

    select
        day,
        xmlns,
        user_id,
        max(form_name) as form_name,
        max(username) as username,
        count(*) filter (where not archived) as submissions,
        count(*) filter (where archived) as archived,
        percentile_cont(0.5) within group (order by date_part('epoch', time_end - time_start))
        filter (where not archived and time_end >= time_start) as median_duration_s,
        percentile_cont(0.5) within group (order by date_part('epoch', received_on - time_end))
        filter (where not archived) as median_delay_s,
        count(*) filter (where not archived and received_on > time_end + interval '24 hours') as late_submissions,
        max(received_on) as last_received_on
    from keyed
    where {{ is_wanted('day') }}
    group by 1, 2, 3

),

-- Counts of what is distinct already: count(distinct) would sort all of it.
touched as (

    select
        day,
        xmlns,
        user_id,
        count(*) as cases_touched
    from (
        select distinct
            keyed.day,
            keyed.xmlns,
            keyed.user_id,
            form_cases.case_id
        from {{ ref('form_cases') }} as form_cases
        inner join keyed on form_cases.form_id = keyed.form_id
        where not keyed.archived and {{ is_wanted('day') }}
    ) as touched_once
    group by 1, 2, 3

)

select
    nullif(submitted.day, '-infinity') as day,
    nullif(submitted.xmlns, '') as xmlns,
    submitted.form_name,
    nullif(submitted.user_id, '') as user_id,
    submitted.username,
    submitted.submissions,
    submitted.archived,
    coalesce(touched.cases_touched, 0) as cases_touched,
    submitted.median_duration_s,
    submitted.median_delay_s,
    submitted.late_submissions,
    submitted.last_received_on
from submitted
left join touched on submitted.day = touched.day and submitted.xmlns = touched.xmlns and submitted.user_id = touched.user_id
