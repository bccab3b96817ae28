with

location_types as (

    select * from {{ ref('stg_location_types') }}

)

select
    location_type_id,
    code,
    name,
    parent_location_type_id,
    is_administrative,
    shares_cases,
    view_descendants
from location_types
