{#- Per table its key, then name, condition and description of each check. Conditions use the columns selected below. -#}
{%- set unreadable = ('unreadable_values', "unfit_columns is not null", 'Rows with a value that is no such number, date or truth value, and NULL here.') -%}
{%- set checks = {
    'cases': ('case_id', [
        ('no_owner', "owner_id is null", 'Cases without an owner.'),
        ('unknown_owner', "owner_id is not null and owner_kind is null", 'Cases whose owner is no mobile worker, web user, group or location that is there.'),
        ('owner_deactivated', "not closed and owner_is_deactivated", 'Open cases of a mobile worker whose account was deactivated.'),
        ('no_name', "case_name is null", 'Cases without a name.'),
        ('missing_related_case', "related_case_is_missing", 'Cases with an index, such as that to a parent, which points to no case that is there.'),
        ('untouched_180_days', "not closed and coalesce(server_last_modified, last_modified) < last_moment - interval '180 days'", 'Open cases that were last changed more than 180 days before the newest change in the data.'),
        ('opened_in_future', "date_opened > coalesce(server_last_modified, last_moment) + interval '1 day'", 'Cases opened more than a day after the server last changed them: the clock of the device was ahead.'),
        ('closed_before_opened', "date_closed < date_opened", 'Cases closed before they were opened: the clock of a device was wrong.'),
        ('no_date_opened', "date_opened is null", 'Cases without a readable date of opening.'),
        ('no_last_modified', "last_modified is null", 'Cases without a readable date of their last change.'),
        ('no_date_closed', "closed and date_closed is null", 'Closed cases without a readable date of closing.'),
    ]),
    'forms': ('form_id', [
        ('no_user', "user_id is null", 'Submissions without a user.'),
        ('unknown_user', "user_id is not null and not user_is_known", 'Submissions by a user who is no mobile worker or web user that is there.'),
        ('no_xmlns', "xmlns is null", 'Submissions that do not say which form was filled in; no generated table has them.'),
        ('archived', "archived", 'Submissions that were archived, that is, taken back.'),
        ('no_times', "time_start is null or time_end is null", 'Submissions without a readable start or end time.'),
        ('ended_before_started', "time_end < time_start", 'Submissions finished before they were begun: the clock of the device was set back.'),
        ('ended_in_future', "time_end > received_on + interval '1 day'", 'Submissions finished more than a day after the server received them: the clock of the device was ahead.'),
        ('received_late', "received_on > time_end + interval '7 days'", 'Submissions received more than 7 days after they were finished.'),
    ]),
    'form_cases': ('form_id', [
        ('unknown_case', "not case_is_known", 'Actions of submissions on cases that are not there, such as deleted ones.'),
    ]),
    'users': ('user_id', [
        ('active_without_submission', "is_active and not has_submitted", 'Active mobile workers who never submitted a form.'),
    ]),
    'user_locations': ('user_id', [
        ('unknown_location', "location_path is null", 'Users assigned to a location that is not there or lies in a circle of parents.'),
    ]),
    'locations': ('location_id', [
        ('unknown_parent', "depth = 0 and parent_location_id is not null", 'Locations below one that is not there, such as an archived one.'),
        ('circle_of_parents', "depth is null", 'Locations that lie in a circle of parents, or below one.'),
        ('impossible_place', "abs(latitude) > 90 or abs(longitude) > 180", 'Locations that lie nowhere on earth.'),
        unreadable,
    ]),
    'location_types': ('location_type_id', [unreadable]),
    'groups': ('group_id', [unreadable]),
    'web_users': ('web_user_id', [unreadable]),
    'lookup_tables': ('lookup_table_id', [unreadable]),
    'lookup_table_items': ('item_id', [
        ('unknown_lookup_table', "tag is null", 'Rows of a lookup table that is not there.'),
        unreadable,
    ]),
    'ucr_rows': ('row_id', [unreadable]),
} -%}

with

-- Read several times, but kept in memory as a whole costs more.
cases as not materialized (

    select
        case_id,
        case_name,
        owner_id,
        owner_kind,
        closed,
        date_opened,
        date_closed,
        last_modified,
        server_last_modified,
        nullif(indices, '{}') as indices
    from {{ source('commcare', 'cases') }}

),

forms as not materialized (

    select
        form_id,
        xmlns,
        user_id,
        archived,
        time_start,
        time_end,
        received_on
    from {{ ref('stg_commcare__submissions') }}

),

form_cases as (

    select * from {{ source('commcare', 'form_cases') }}

),

users as (

    select * from {{ source('commcare', 'users') }}

),

owners as (

    select * from {{ source('commcare', 'owners') }}

),

-- Both are instants of the server: a device's clock may be years ahead.
last_moment as materialized (

    select
        greatest(
            (select max(received_on) from {{ source('commcare', 'forms') }}),
            (select max(server_last_modified) from cases)
        ) as last_moment

),

relations as (

    select
        case_id,
        jsonb_path_query(indices, '$.*.case_id') #>> '{}' as related_case_id
    from cases
    where indices is not null

),

orphans as (

    select distinct case_id
    from relations
    where
        related_case_id <> ''
        and not exists (select from cases where cases.case_id = relations.related_case_id)

),

submitters as (

    select distinct user_id from forms

),

checked_cases as (

    select
        cases.*,
        last_moment.last_moment,
        coalesce(not owners.is_active, false) as owner_is_deactivated,
        orphans.case_id is not null as related_case_is_missing
    from cases
    cross join last_moment
    left join owners on cases.owner_id = owners.owner_id
    left join orphans on cases.case_id = orphans.case_id

),

checked_forms as (

    select
        forms.*,
        persons.owner_id is not null as user_is_known
    from forms
    left join owners as persons
        on forms.user_id = persons.owner_id
        and persons.owner_kind in ('mobile_worker', 'web_user')

),

checked_form_cases as (

    select
        form_cases.form_id,
        cases.case_id is not null as case_is_known
    from form_cases
    left join cases on form_cases.case_id = cases.case_id

),

checked_users as (

    select
        users.*,
        submitters.user_id is not null as has_submitted
    from users
    left join submitters on users.user_id = submitters.user_id

),

{%- for table in ['user_locations', 'locations', 'location_types', 'groups', 'web_users', 'lookup_tables', 'lookup_table_items', 'ucr_rows'] %}

checked_{{ table }} as (

    select * from {{ source('commcare', table) }}

)
{{- ',' if not loop.last }}
{%- endfor %}
{%- for table, (key, listed) in checks.items() %},

counts_of_{{ table }} as (

    select
        {%- for name, condition, _ in listed %}
        count(*) filter (where {{ condition }}) as {{ name }},
        min({{ key }}) filter (where {{ condition }}) as {{ name }}_example,
        {%- endfor %}
        count(*) as rows_checked
    from checked_{{ table }}

)
{%- endfor %}
{% for table, (key, listed) in checks.items() %}
select
    '{{ table }}' as table_name,
    found.check_name,
    found.description,
    found.rows_found,
    rows_checked,
    found.example_id
from counts_of_{{ table }}
cross join lateral (
    values
    {%- for name, _, description in listed %}
    ('{{ name }}', '{{ description }}', {{ name }}, {{ name }}_example){{ ',' if not loop.last }}
    {%- endfor %}
) as found (check_name, description, rows_found, example_id)
{{ 'union all' if not loop.last }}
{%- endfor %}
