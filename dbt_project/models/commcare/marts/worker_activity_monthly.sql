with

submissions as (

    select * from {{ ref('stg_commcare__submissions') }}
    where
        not archived
        and user_id is not null
        and ({{ changed('received_month') }} or received_month is null)

),

visits as (

    select * from {{ ref('visits') }}
    where
        not archived
        and user_id is not null
        and ({{ changed('received_month') }} or received_month is null)

),

owners as (

    select * from {{ source('commcare', 'owners') }}

),

submitted as (

    select
        user_id,
        received_month as month,
        max(username) as username,
        count(*) as submissions,
        percentile_cont(0.5) within group (order by duration_s) as median_duration_s,
        count(*) filter (where is_late) as late_submissions,
        count(*) filter (where is_in_working_hours) as submissions_in_working_hours,
        count(delay_s) as submissions_with_times,
        min(received_on) as first_received_on,
        max(received_on) as last_received_on
    from submissions
    group by 1, 2

),

-- Per form and day first: count(distinct) would sort all submissions.
forms_and_days as (

    select
        user_id,
        month,
        count(distinct xmlns) as forms,
        count(distinct received_day) as days_active
    from (
        select distinct user_id, received_month as month, xmlns, received_day from submissions
    ) as different
    group by 1, 2

),

-- Per case first, for the same reason.
cases_of_month as (

    select
        user_id,
        received_month as month,
        case_id,
        bool_or(is_opening) as is_opened,
        bool_or(is_closing) as is_closed
    from visits
    group by 1, 2, 3

),

touched as (

    select
        user_id,
        month,
        count(*) as cases_touched,
        count(*) filter (where is_opened) as cases_opened,
        count(*) filter (where is_closed) as cases_closed
    from cases_of_month
    group by 1, 2

),

joined as (

    select
        submitted.user_id,
        submitted.month,
        submitted.username,
        owners.owner_kind as user_kind,
        submitted.submissions,
        forms_and_days.forms,
        forms_and_days.days_active,
        coalesce(touched.cases_touched, 0) as cases_touched,
        coalesce(touched.cases_opened, 0) as cases_opened,
        coalesce(touched.cases_closed, 0) as cases_closed,
        submitted.median_duration_s,
        submitted.submissions_with_times,
        submitted.late_submissions,
        -- Shares of the submissions whose times are readable; NULL where none are.
        submitted.late_submissions::double precision / nullif(submitted.submissions_with_times, 0) as late_share,
        submitted.submissions_in_working_hours,
        submitted.submissions_in_working_hours::double precision / nullif(submitted.submissions_with_times, 0) as working_hours_share,
        submitted.first_received_on,
        submitted.last_received_on
    from submitted
    inner join forms_and_days
        on submitted.user_id = forms_and_days.user_id
        and coalesce(submitted.month, '-infinity') = coalesce(forms_and_days.month, '-infinity')
    left join touched on submitted.user_id = touched.user_id and submitted.month = touched.month
    left join owners on submitted.user_id = owners.owner_id

)

select * from joined
