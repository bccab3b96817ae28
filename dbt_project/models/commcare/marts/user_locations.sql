with

users as (

    select user_id, username, 'mobile_worker' as user_kind, is_active, primary_location_id, location_ids from {{ ref('users') }}
    union all
    select web_user_id, username, 'web_user', true, primary_location_id, assigned_location_ids from {{ ref('web_users') }}

),

assigned as (

    select distinct
        users.user_id,
        users.username,
        users.user_kind,
        users.is_active,
        assignment.location_id,
        users.primary_location_id is not distinct from assignment.location_id as is_primary
    from users
    cross join lateral unnest(users.location_ids || users.primary_location_id) as assignment (location_id)
    where assignment.location_id <> ''

),

locations as (

    select * from {{ ref('locations') }}

)

select
    assigned.user_id,
    assigned.username,
    assigned.user_kind,
    assigned.is_active,
    assigned.location_id,
    assigned.is_primary,
    locations.name as location_name,
    locations.location_type_code,
    locations.location_type_name,
    locations.depth,
    locations.path as location_path,
    locations.ancestor_ids,
    locations.ancestor_names,
    locations.ancestor_type_codes,
    locations.levels
from assigned
left join locations on assigned.location_id = locations.location_id
