with

cases as (

    select
        case_id,
        case_type,
        closed,
        (date_opened at time zone '{{ var("timezone") }}')::date as opened_day,
        coalesce(date_closed, last_modified) as closed_at
    from {{ source('commcare', 'cases') }}

),

visits as (

    select * from {{ ref('visits') }}
    where not archived

),

opened as (

    select
        case_type,
        opened_day as day,
        count(*) as opened
    from cases
    group by 1, 2

),

closed as (

    select
        case_type,
        (closed_at at time zone '{{ var("timezone") }}')::date as day,
        count(*) as closed
    from cases
    where closed
    group by 1, 2

),

acted as materialized (

    select
        cases.case_type,
        visits.received_day as day,
        visits.case_id,
        visits.user_id
    from visits
    inner join cases on visits.case_id = cases.case_id

),

-- Counts of what is distinct already: count(distinct) would sort all of it.
touched as (

    select
        case_type,
        day,
        count(*) as touched
    from (select distinct case_type, day, case_id from acted) as cases_of_day
    group by 1, 2

),

users as (

    select
        case_type,
        day,
        count(user_id) as users
    from (select distinct case_type, day, user_id from acted) as users_of_day
    group by 1, 2

),

counted as (

    select case_type, day, opened, 0 as closed, 0 as touched, 0 as users from opened
    union all
    select case_type, day, 0, closed, 0, 0 from closed
    union all
    select case_type, day, 0, 0, touched, 0 from touched
    union all
    select case_type, day, 0, 0, 0, users from users

),

days as (

    select
        case_type,
        day,
        sum(opened)::bigint as opened,
        sum(closed)::bigint as closed,
        sum(touched)::bigint as touched,
        sum(users)::bigint as users
    from counted
    group by 1, 2

),

final as (

    select
        *,
        -- Cases of unknown days count as there from the start.
        (sum(opened - closed) over (partition by case_type order by day nulls first))::bigint as open_at_end
    from days

)

select * from final
