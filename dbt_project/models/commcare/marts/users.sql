with

users as (

    select * from {{ ref('stg_users') }}

)

select
    user_id,
    username,
    first_name,
    last_name,
    email,
    default_phone_number,
    phone_numbers,
    is_active,
    primary_location_id,
    location_ids,
    group_ids,
    user_data
from users
