with

source as (

    select * from {{ raw('raw_web_users', {'web_user_id': 'text', 'username': 'text'}) }}

),

renamed as (

    select

        ---------- ids
        web_user_id,
        username,
        {{ blank_to_null("record ->> 'primary_location_id'") }} as primary_location_id,
        {{ text_array("record -> 'assigned_location_ids'") }} as assigned_location_ids,
        ---------- person
        {{ blank_to_null("record ->> 'first_name'") }} as first_name,
        {{ blank_to_null("record ->> 'last_name'") }} as last_name,
        {{ blank_to_null("record ->> 'email'") }} as email,
        {{ blank_to_null("record ->> 'default_phone_number'") }} as default_phone_number,
        ---------- rights
        {{ blank_to_null("record ->> 'role'") }} as role,
        casts.safe_boolean(record ->> 'is_admin') as is_admin,
        {{ json_object("record -> 'permissions'") }} as permissions,
        ---------- json
        {{ json_object("record -> 'user_data'") }} as user_data,
        ---------- quality
        {{ is_unreadable("record ->> 'is_admin'", "casts.safe_boolean(record ->> 'is_admin')") }}
        as has_unreadable_values,
        ---------- loader
        _loaded_at as loaded_at

    from source
    where _deleted_at is null

)

select * from renamed
