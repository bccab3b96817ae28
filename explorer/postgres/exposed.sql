-- What PUBLIC can still see or run in this database, one row each: kind, name, and the statements that move it to dp_catalog.
-- The hardening runs the statements, the check counts the rows. PostgreSQL 15 to 18; every name is qualified.
WITH kept_functions (name) AS (
  SELECT unnest(ARRAY[
    'age', 'array_sample', 'array_shuffle', 'array_to_json', 'array_to_string', 'clock_timestamp', 'concat', 'concat_ws',
    'convert_from', 'convert_to', 'current_database', 'current_schema', 'current_user', 'date', 'date_add', 'date_part',
    'date_subtract', 'date_trunc', 'enum_first', 'enum_last', 'enum_range', 'extract', 'format', 'gen_random_uuid', 'generate_series',
    'interval', 'json_build_array', 'json_build_object', 'json_to_record', 'json_to_recordset', 'json_to_tsvector', 'jsonb_build_array', 'jsonb_build_object', 'jsonb_path_exists_tz',
    'jsonb_path_match_tz', 'jsonb_path_query_array_tz', 'jsonb_path_query_first_tz', 'jsonb_path_query_tz', 'jsonb_to_record', 'jsonb_to_recordset', 'jsonb_to_tsvector', 'length',
    'make_timestamptz', 'now', 'overlaps', 'pg_column_size', 'pg_size_bytes', 'pg_size_pretty', 'phraseto_tsquery', 'plainto_tsquery',
    'quote_literal', 'quote_nullable', 'random', 'random_normal', 'row_to_json', 'session_user', 'statement_timestamp', 'time', 'timeofday',
    'timestamp', 'timestamptz', 'timetz', 'timezone', 'to_char', 'to_date', 'to_json', 'to_jsonb', 'to_number', 'to_timestamp',
    'to_tsquery', 'to_tsvector', 'transaction_timestamp', 'ts_headline', 'uuidv4', 'uuidv7', 'websearch_to_tsquery'
  ])
),
system_schemas (oid) AS (
  SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname IN ('pg_catalog', 'information_schema')
),
-- Types of values. Not among them: numbers and names of objects (oid, reg*, xid, tid, pg_lsn ...), rights (aclitem), XML, geometry,
-- and what only the server itself passes around (internal, cstring, trigger, handlers).
data_types (oid) AS (
  SELECT t.oid FROM pg_catalog.pg_type t WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typname IN (
    'bool', 'int2', 'int4', 'int8', 'float4', 'float8', 'numeric', 'money', 'text', 'varchar', 'bpchar', 'char', 'name', 'bytea',
    'date', 'time', 'timetz', 'timestamp', 'timestamptz', 'interval', 'json', 'jsonb', 'jsonpath', 'uuid', 'inet', 'cidr', 'macaddr',
    'macaddr8', 'bit', 'varbit', 'tsvector', 'tsquery', 'regconfig', 'int4range', 'int8range', 'numrange', 'daterange', 'tsrange',
    'tstzrange', 'int4multirange', 'int8multirange', 'nummultirange', 'datemultirange', 'tsmultirange', 'tstzmultirange', 'record',
    'any', 'anyelement', 'anyarray', 'anynonarray', 'anyenum', 'anyrange', 'anymultirange', 'anycompatible', 'anycompatiblearray',
    'anycompatiblenonarray', 'anycompatiblerange', 'anycompatiblemultirange')
  UNION SELECT t.typarray FROM pg_catalog.pg_type t
         WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typname IN ('bool', 'int2', 'int4', 'int8', 'float4', 'float8', 'numeric',
    'text', 'varchar', 'bpchar', 'bytea', 'date', 'time', 'timetz', 'timestamp', 'timestamptz', 'interval', 'json', 'jsonb', 'uuid', 'inet', 'char')
),
-- What expressions call without naming it: the functions of operators and casts. Support functions of types, indexes and aggregates
-- are not among them: PostgreSQL calls these without asking whether the user may.
expression_functions (oid) AS (
  SELECT o.oprcode::oid FROM pg_catalog.pg_operator o WHERE o.oprcode <> 0
  UNION SELECT c.castfunc FROM pg_catalog.pg_cast c WHERE c.castfunc <> 0
),
-- A tenant needs what computes values from values. Everything else of pg_catalog is taken away, whatever it is called.
needed_functions (oid) AS (
  SELECT p.oid FROM pg_catalog.pg_proc p
   WHERE p.pronamespace = 'pg_catalog'::regnamespace
     AND NOT EXISTS (SELECT FROM unnest(p.proargtypes::oid[] || coalesce(p.proallargtypes, '{}') || p.prorettype) AS used (oid)
                      WHERE used.oid NOT IN (SELECT d.oid FROM data_types d))
     AND (p.proname IN (SELECT name FROM kept_functions)
          OR ((p.provolatile = 'i' OR p.prokind IN ('a', 'w') OR p.oid IN (SELECT e.oid FROM expression_functions e))
              AND p.proname !~ '^(pg_|binary_upgrade|ts_(parse|token|lexize|debug|stat|rewrite)|lo_|txid_|xml|icu_|unicode_version|convert$)'))
  -- Casts of constants between text and values are worked out beforehand, with the user's rights. Those that are told a type by its
  -- number (array_in, enum_in, range_in, record_in ...) stay closed, and so does the configuration's, which tells what exists.
  UNION SELECT i.function FROM pg_catalog.pg_type t
         CROSS JOIN LATERAL (VALUES (t.typinput::oid), (t.typoutput::oid)) AS i (function)
          JOIN pg_catalog.pg_proc p ON p.oid = i.function
         WHERE (t.oid IN (SELECT d.oid FROM data_types d) OR t.typname = 'cstring')
           AND p.proname !~ '^(array|enum|range|multirange|record|domain|any.*)_in$|^regconfig'
  UNION SELECT p.oid FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = 'enum_out'
  -- Their result is a type, of the caller's own value; and a kind of sample.
  UNION SELECT p.oid FROM pg_catalog.pg_proc p
         WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname IN ('pg_typeof', 'bernoulli', 'system')
)
SELECT 'database' AS kind, d.datname::text AS name, format('REVOKE ALL ON DATABASE %I FROM PUBLIC', d.datname) AS statement
  FROM pg_catalog.pg_database d
 WHERE d.datname = current_database()
   AND EXISTS (SELECT FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a WHERE a.grantee = 0)
UNION ALL
SELECT 'schema', n.nspname,
       CASE WHEN n.nspname = 'information_schema' THEN 'GRANT USAGE ON SCHEMA information_schema TO dp_catalog; ' ELSE '' END
       || format('REVOKE ALL ON SCHEMA %I FROM PUBLIC', n.nspname)
  FROM pg_catalog.pg_namespace n
 WHERE n.nspname IN ('public', 'information_schema')
   AND EXISTS (SELECT FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a WHERE a.grantee = 0)
UNION ALL
SELECT 'language', l.lanname, format('GRANT USAGE ON LANGUAGE %1$I TO dp_catalog; REVOKE ALL ON LANGUAGE %1$I FROM PUBLIC', l.lanname)
  FROM pg_catalog.pg_language l
 WHERE l.lanpltrusted AND EXISTS (SELECT FROM aclexplode(coalesce(l.lanacl, acldefault('l', l.lanowner))) a WHERE a.grantee = 0)
UNION ALL
SELECT 'relation', c.relname,
       format('GRANT SELECT ON %1$I.%2$I TO dp_catalog; REVOKE ALL ON %1$I.%2$I FROM PUBLIC', n.nspname, c.relname)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relnamespace IN (SELECT oid FROM system_schemas) AND c.relkind IN ('r', 'v', 'm')
   AND EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee = 0)
UNION ALL
SELECT 'columns', c.relname,
       format('GRANT SELECT (%3$s) ON %1$I.%2$I TO dp_catalog; REVOKE SELECT (%3$s) ON %1$I.%2$I FROM PUBLIC', n.nspname, c.relname,
              string_agg(quote_ident(t.attname), ', ' ORDER BY t.attnum))
  FROM pg_catalog.pg_attribute t
  JOIN pg_catalog.pg_class c ON c.oid = t.attrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relnamespace IN (SELECT oid FROM system_schemas)
   AND EXISTS (SELECT FROM aclexplode(t.attacl) a WHERE a.grantee = 0 AND a.privilege_type = 'SELECT')
 GROUP BY n.nspname, c.relname
UNION ALL
SELECT 'function', p.proname,
       format('GRANT EXECUTE ON ROUTINE pg_catalog.%1$I(%2$s) TO dp_catalog; REVOKE EXECUTE ON ROUTINE pg_catalog.%1$I(%2$s) FROM PUBLIC',
              p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid))
  FROM pg_catalog.pg_proc p
 WHERE p.pronamespace = 'pg_catalog'::regnamespace AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0)
   AND p.oid NOT IN (SELECT n.oid FROM needed_functions n)
