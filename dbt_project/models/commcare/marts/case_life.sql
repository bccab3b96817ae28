with

-- Read twice, but kept in memory as a whole costs more.
cases as not materialized (

    select
        case_id,
        case_type,
        owner_id,
        owner_kind,
        owner_name,
        date_opened,
        closed,
        server_last_modified,
        -- As in case_activity: a closed case without a readable date of closing was closed when it was last changed.
        case when closed then coalesce(date_closed, last_modified) end as closed_at
    from {{ source('commcare', 'cases') }}

),

visits as not materialized (

    select * from {{ ref('visits') }}
    where not archived

),

-- An open case is open up to here. Both are instants of the server: a device's clock may be years ahead.
last_moment as (

    select
        greatest(
            (select max(received_on) from visits),
            (select max(server_last_modified) from cases)
        ) as last_moment

),

{%- if is_update() %}

-- Those that a change concerns, and open ones that became a day older.
chosen as (

    select case_id
    from cases
    where {{ changed('case_id') }}
    union
    select lives.case_id
    from {{ this }} as lives
    cross join last_moment
    where
        lives.closed_at is null
        -- They are few, which PostgreSQL supposes of an equality only.
        and (date_part('day', last_moment.last_moment - lives.opened_at)::integer is distinct from lives.days_open)::integer = 1

),
{%- endif %}

numbered as (

    select
        case_id,
        finished_at,
        user_id,
        username,
        -- Visits of the same day have no gap between them.
        nullif(finished_day - lag(finished_day) over life, 0) as gap_days,
        lead(form_id) over life is null as is_last
    from visits
    {%- if is_update() %}
    -- An array, for which PostgreSQL uses the index, and reads few rows.
    where case_id = any(array(select case_id from chosen))
    {%- endif %}
    window life as (partition by case_id order by finished_at, form_id)

),

visited as (

    select
        case_id,
        count(*) as visits,
        count(gap_days) + 1 as visit_days,
        min(finished_at) as first_visit_at,
        max(finished_at) as last_visit_at,
        percentile_cont(0.5) within group (order by gap_days) as median_gap_days,
        max(gap_days) as longest_gap_days,
        max(user_id) filter (where is_last) as last_user_id,
        max(username) filter (where is_last) as last_username
    from numbered
    group by 1

),

joined as (

    select
        cases.case_id,
        cases.case_type,
        cases.owner_id,
        cases.owner_kind,
        cases.owner_name,
        cases.date_opened as opened_at,
        visited.first_visit_at,
        visited.last_visit_at,
        coalesce(visited.visits, 0) as visits,
        coalesce(visited.visit_days, 0) as visit_days,
        visited.median_gap_days,
        visited.longest_gap_days,
        visited.last_user_id,
        visited.last_username,
        cases.closed as is_closed,
        cases.closed_at,
        date_part('day', coalesce(cases.closed_at, last_moment.last_moment) - cases.date_opened)::integer as days_open
    from cases
    cross join last_moment
    left join visited on cases.case_id = visited.case_id
    {%- if is_update() %}
    where cases.case_id = any(array(select case_id from chosen))
    {%- endif %}

)

select * from joined
