with

source as (

    select * from {{ raw('raw_users', {'user_id': 'text', 'username': 'text', 'is_active': 'boolean'}) }}

),

renamed as (

    select

        ---------- ids
        user_id,
        username,
        coalesce({{ blank_to_null("record ->> 'primary_location'") }}, {{ blank_to_null("record #>> '{user_data,commcare_location_id}'") }}) as primary_location_id,
        case
            when jsonb_array_length({{ json_array("record -> 'locations'") }}) > 0 then {{ text_array("record -> 'locations'") }}
            else coalesce(casts.choices(record #>> '{user_data,commcare_location_ids}'), '{}'::text[])
        end as location_ids,
        {{ text_array("record -> 'groups'") }} as group_ids,
        ---------- person
        {{ blank_to_null("record ->> 'first_name'") }} as first_name,
        {{ blank_to_null("record ->> 'last_name'") }} as last_name,
        {{ blank_to_null("record ->> 'email'") }} as email,
        {{ blank_to_null("record ->> 'default_phone_number'") }} as default_phone_number,
        {{ text_array("record -> 'phone_numbers'") }} as phone_numbers,
        ---------- state
        is_active,
        ---------- json
        {{ json_object("record -> 'user_data'") }} as user_data,
        ---------- loader
        _loaded_at as loaded_at

    from source
    where _deleted_at is null

)

select * from renamed
