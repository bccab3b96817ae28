with

form_cases as (

    select * from {{ source('commcare', 'form_cases') }}
    where {{ changed('form_id') }}

),

submissions as (

    select * from {{ ref('stg_commcare__submissions') }}
    where {{ changed('form_id') }}

),

-- A submission has a row in form_cases for each block and action; here it is one visit of the case.
visits as (

    select
        case_id,
        form_id,
        bool_or(action = 'create') as is_opening,
        bool_or(action = 'close') as is_closing
    from form_cases
    group by 1, 2

),

joined as (

    select
        visits.case_id,
        visits.form_id,
        visits.is_opening,
        visits.is_closing,
        submissions.xmlns,
        submissions.user_id,
        submissions.username,
        submissions.archived,
        submissions.received_on,
        submissions.received_day,
        submissions.received_month,
        submissions.finished_at,
        submissions.finished_day
    from visits
    inner join submissions on visits.form_id = submissions.form_id

)

select * from joined
