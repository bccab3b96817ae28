with

submissions as (

    select * from {{ ref('stg_commcare__submissions') }}
    where {{ changed('received_day') }} or received_day is null

),

visits as (

    select * from {{ ref('visits') }}
    where
        not archived
        and ({{ changed('received_day') }} or received_day is null)

),

submitted as (

    select
        received_day as day,
        xmlns,
        user_id,
        max(form_name) as form_name,
        max(username) as username,
        count(*) filter (where not archived) as submissions,
        count(*) filter (where archived) as archived,
        percentile_cont(0.5) within group (order by duration_s) filter (where not archived) as median_duration_s,
        percentile_cont(0.5) within group (order by delay_s) filter (where not archived) as median_delay_s,
        count(*) filter (where not archived and is_late) as late_submissions,
        max(received_on) as last_received_on
    from submissions
    group by 1, 2, 3

),

-- Counts of what is distinct already: count(distinct) would sort all of it.
touched as (

    select
        day,
        xmlns,
        user_id,
        count(*) as cases_touched
    from (select distinct received_day as day, xmlns, user_id, case_id from visits) as touched_once
    group by 1, 2, 3

),

joined as (

    select
        submitted.day,
        submitted.xmlns,
        submitted.form_name,
        submitted.user_id,
        submitted.username,
        submitted.submissions,
        submitted.archived,
        coalesce(touched.cases_touched, 0) as cases_touched,
        submitted.median_duration_s,
        submitted.median_delay_s,
        submitted.late_submissions,
        submitted.last_received_on
    from submitted
    -- Each part of the key may be NULL.
    left join touched
        on coalesce(submitted.day, '-infinity') = coalesce(touched.day, '-infinity')
        and coalesce(submitted.xmlns, '') = coalesce(touched.xmlns, '')
        and coalesce(submitted.user_id, '') = coalesce(touched.user_id, '')

)

select * from joined
