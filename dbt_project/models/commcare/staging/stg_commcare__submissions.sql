with

forms as (

    select * from {{ source('commcare', 'forms') }}
    where {{ changed('form_id') }}

),

-- A device's clock may be ahead; nothing was finished after the server had it.
finished as (

    select
        *,
        least(time_end, received_on) as finished_at,
        received_on at time zone '{{ var("timezone") }}' as received_local,
        least(time_end, received_on) at time zone '{{ var("timezone") }}' as finished_local
    from forms

),

submissions as (

    select

        ---------- ids
        form_id,
        xmlns,
        user_id,

        ---------- names
        form_name,
        username,

        ---------- state
        archived,

        ---------- timestamps
        time_start,
        time_end,
        received_on,
        received_local::date as received_day,
        date_trunc('month', received_local)::date as received_month,
        finished_at,
        finished_local::date as finished_day,

        ---------- how long, how late
        case
            when time_end >= time_start then date_part('epoch', time_end - time_start)
        end as duration_s,
        date_part('epoch', received_on - time_end) as delay_s,
        received_on > time_end + interval '24 hours' as is_late,
        case
            when time_end is not null
                then
                    date_part('hour', finished_local) >= {{ var('working_hours')[0] }}
                    and date_part('hour', finished_local) < {{ var('working_hours')[1] }}
        end as is_in_working_hours

    from finished

)

select * from submissions
