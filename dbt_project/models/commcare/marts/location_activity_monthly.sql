with

locations as (

    select * from {{ source('commcare', 'locations') }}

),

user_locations as (

    select * from {{ source('commcare', 'user_locations') }}

),

cases as (

    select * from {{ source('commcare', 'cases') }}

),

owners as (

    select * from {{ source('commcare', 'owners') }}

),

worker_activity as (

    select * from {{ ref('worker_activity_monthly') }}

),

-- Each location, and those above it: what happens in a village counts for its district, too.
levels as (

    select
        location_id,
        unnest(coalesce(ancestor_ids, '{}') || location_id) as at_location_id
    from locations

),

-- A user assigned to several places below the same district counts once in it.
workers as (

    select distinct
        levels.at_location_id as location_id,
        user_locations.user_id,
        user_locations.is_active
    from user_locations
    inner join levels on user_locations.location_id = levels.location_id

),

assigned as (

    select
        location_id,
        count(*) filter (where is_active) as workers
    from workers
    group by 1

),

submitted as (

    select
        workers.location_id,
        worker_activity.month,
        count(*) as active_workers,
        sum(worker_activity.submissions)::bigint as submissions,
        sum(worker_activity.late_submissions)::bigint as late_submissions
    from worker_activity
    inner join workers on worker_activity.user_id = workers.user_id
    group by 1, 2

),

-- Per owner first: there are many cases and few owners. The case is where its owner is now.
opened_by_owner as (

    select
        owner_id,
        date_trunc('month', date_opened at time zone '{{ var("timezone") }}')::date as month,
        count(*) as opened
    from cases
    group by 1, 2

),

closed_by_owner as (

    select
        owner_id,
        date_trunc('month', coalesce(date_closed, last_modified) at time zone '{{ var("timezone") }}')::date as month,
        count(*) as closed
    from cases
    where closed
    group by 1, 2

),

counted_by_owner as (

    select owner_id, month, opened, 0 as closed from opened_by_owner
    union all
    select owner_id, month, 0, closed from closed_by_owner

),

case_counts as (

    select
        levels.at_location_id as location_id,
        counted_by_owner.month,
        sum(counted_by_owner.opened)::bigint as cases_opened,
        sum(counted_by_owner.closed)::bigint as cases_closed
    from counted_by_owner
    inner join owners on counted_by_owner.owner_id = owners.owner_id
    inner join levels on owners.location_id = levels.location_id
    group by 1, 2

),

months as (

    select location_id, month from submitted
    union
    select location_id, month from case_counts

),

joined as (

    select
        locations.location_id,
        months.month,
        locations.name as location_name,
        locations.location_type_code,
        locations.depth,
        locations.path as location_path,
        coalesce(assigned.workers, 0) as workers,
        coalesce(submitted.active_workers, 0) as active_workers,
        coalesce(submitted.submissions, 0) as submissions,
        coalesce(submitted.late_submissions, 0) as late_submissions,
        coalesce(case_counts.cases_opened, 0) as cases_opened,
        coalesce(case_counts.cases_closed, 0) as cases_closed
    from months
    inner join locations on months.location_id = locations.location_id
    left join assigned on months.location_id = assigned.location_id
    left join submitted on months.location_id = submitted.location_id and months.month is not distinct from submitted.month
    left join case_counts on months.location_id = case_counts.location_id and months.month is not distinct from case_counts.month

),

final as (

    select
        *,
        -- Cases of unknown months count as there from the start.
        (sum(cases_opened - cases_closed) over (partition by location_id order by month nulls first))::bigint as cases_open_at_end
    from joined

)

select * from final
