{#- The loader's table of records that it set aside; there is none before the first load. -#}
{%- set rejected = adapter.get_relation(target.database, target.schema | replace('_marts', '_raw'), 'raw_rejected') if execute -%}

with

counted as (

    select * from {{ ref('int_commcare__data_quality') }}

)

{%- if rejected %},

set_aside as (

    select
        'raw_' || resource as table_name,
        'rejected' as check_name,
        'Records that were set aside when they were loaded: ' || reason || '.' as description,
        count(*) as rows_found,
        null::bigint as rows_checked,
        min(rejected_id) as example_id
    from {{ rejected }}
    group by resource, reason

)
{%- endif %}

select * from counted
{%- if rejected %}
union all
select * from set_aside
{%- endif %}
