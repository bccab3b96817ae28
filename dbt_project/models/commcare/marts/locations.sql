with recursive

locations as (

    select * from {{ ref('stg_locations') }}

),

-- From the top down, so that a circle of parents cannot run for ever: its members have no way from the top.
tree as (

    select
        location_id,
        0 as depth,
        array[]::text[] as ancestor_ids,
        array[]::text[] as ancestor_type_codes,
        array[coalesce(name, location_id)] as names,
        location_type_code,
        jsonb_build_object(coalesce(location_type_code, ''), coalesce(name, location_id)) as levels
    from locations
    where parent_location_id is null or parent_location_id not in (select location_id from locations)

    union all

    select
        locations.location_id,
        tree.depth + 1,
        tree.ancestor_ids || tree.location_id,
        tree.ancestor_type_codes || tree.location_type_code,
        tree.names || coalesce(locations.name, locations.location_id),
        locations.location_type_code,
        tree.levels || jsonb_build_object(coalesce(locations.location_type_code, ''), coalesce(locations.name, locations.location_id))
    from locations
    inner join tree on locations.parent_location_id = tree.location_id

)

select
    locations.location_id,
    locations.name,
    locations.site_code,
    locations.location_type_code,
    locations.location_type_name,
    locations.parent_location_id,
    tree.depth,
    tree.ancestor_ids,
    tree.names[:tree.depth] as ancestor_names,
    tree.ancestor_type_codes,
    array_to_string(tree.names, ' / ') as path,
    tree.levels - '' as levels,
    locations.latitude,
    locations.longitude,
    locations.location_data,
    locations.last_modified
from locations
left join tree on locations.location_id = tree.location_id
