with

web_users as (

    select * from {{ ref('stg_web_users') }}

)

select
    web_user_id,
    username,
    first_name,
    last_name,
    email,
    default_phone_number,
    role,
    is_admin,
    permissions,
    primary_location_id,
    assigned_location_ids,
    user_data
from web_users
