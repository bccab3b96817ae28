with

opened as (

    select
        case_type,
        (date_opened at time zone 'UTC')::date as day,
        count(*) as opened
    from {{ ref('cases') }}
    group by 1, 2

),

closed as (

    select
        case_type,
        (coalesce(date_closed, last_modified) at time zone 'UTC')::date as day,
        count(*) as closed
    from {{ ref('cases') }}
    where closed
    group by 1, 2

),

acted as materialized (

    select
        cases.case_type,
        (forms.received_on at time zone 'UTC')::date as day,
        form_cases.case_id,
        forms.user_id
    from {{ ref('form_cases') }} as form_cases
    inner join {{ ref('forms') }} as forms on form_cases.form_id = forms.form_id
    inner join {{ ref('cases') }} as cases on form_cases.case_id = cases.case_id
    where not forms.archived

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

days as (

    select
        case_type,
        day,
        sum(opened)::bigint as opened,
        sum(closed)::bigint as closed,
        sum(touched)::bigint as touched,
        sum(users)::bigint as users
    from (
        select case_type, day, opened, 0 as closed, 0 as touched, 0 as users from opened
        union all
        select case_type, day, 0, closed, 0, 0 from closed
        union all
        select case_type, day, 0, 0, touched, 0 from touched
        union all
        select case_type, day, 0, 0, 0, users from users
    ) as counted
    group by 1, 2

)

select
    case_type,
    day,
    opened,
    closed,
    touched,
    users,
    -- Cases of unknown days count as there from the start.
    (sum(opened - closed) over (partition by case_type order by day nulls first))::bigint as open_at_end
from days
