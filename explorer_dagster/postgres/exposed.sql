-- What PUBLIC can still see or run in this database, one row each: kind, name, and the statements that move it to dp_catalog.
-- The hardening runs the statements, the check counts the rows. PostgreSQL 15 to 18; every name is qualified.
WITH kept_functions (name) AS (
  SELECT unnest(ARRAY[
    'age', 'array_sample', 'array_shuffle', 'array_to_json', 'array_to_string', 'bernoulli', 'clock_timestamp', 'concat', 'concat_ws',
    'convert', 'convert_from', 'convert_to', 'current_database', 'current_schema', 'current_user', 'date', 'date_add', 'date_part',
    'date_subtract', 'date_trunc', 'enum_first', 'enum_last', 'enum_range', 'extract', 'format', 'gen_random_uuid', 'generate_series',
    'in_range', 'interval', 'json_build_array', 'json_build_object', 'json_populate_record', 'json_populate_recordset',
    'json_to_record', 'json_to_recordset', 'json_to_tsvector', 'jsonb_build_array', 'jsonb_build_object', 'jsonb_path_exists_tz',
    'jsonb_path_match_tz', 'jsonb_path_query_array_tz', 'jsonb_path_query_first_tz', 'jsonb_path_query_tz', 'jsonb_populate_record',
    'jsonb_populate_record_valid', 'jsonb_populate_recordset', 'jsonb_to_record', 'jsonb_to_recordset', 'jsonb_to_tsvector', 'length',
    'make_timestamptz', 'now', 'overlaps', 'pg_column_size', 'pg_typeof', 'phraseto_tsquery', 'plainto_tsquery', 'quote_literal',
    'quote_nullable', 'random', 'random_normal', 'row_to_json', 'session_user', 'statement_timestamp', 'system', 'time', 'timeofday',
    'timestamp', 'timestamptz', 'timetz', 'timezone', 'to_char', 'to_date', 'to_json', 'to_jsonb', 'to_number', 'to_timestamp',
    'to_tsquery', 'to_tsvector', 'transaction_timestamp', 'ts_headline', 'uuidv4', 'uuidv7', 'websearch_to_tsquery'
  ])
),
system_schemas (oid) AS (
  SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname IN ('pg_catalog', 'information_schema')
),
-- Functions behind operators, casts, types, aggregates and indexes: plain expressions would stop working without them.
machinery (oid) AS (
  SELECT unnest(ARRAY[o.oprcode, o.oprrest, o.oprjoin])::oid FROM pg_catalog.pg_operator o
  UNION SELECT c.castfunc FROM pg_catalog.pg_cast c JOIN pg_catalog.pg_proc p ON p.oid = c.castfunc AND p.provolatile = 'i'
  UNION SELECT unnest(ARRAY[t.typinput, t.typoutput, t.typreceive, t.typsend, t.typmodin, t.typmodout, t.typanalyze])::oid
          FROM pg_catalog.pg_type t
  UNION SELECT unnest(ARRAY[a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn, a.aggmtransfn,
                            a.aggminvtransfn, a.aggmfinalfn])::oid FROM pg_catalog.pg_aggregate a
  UNION SELECT m.amproc::oid FROM pg_catalog.pg_amproc m
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
 WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind IN ('f', 'p')
   AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0)
   AND p.oid NOT IN (SELECT oid FROM machinery)
   AND ((p.provolatile <> 'i' AND p.proname NOT IN (SELECT name FROM kept_functions))
        OR p.proname ~ '^(binary_upgrade|pg_(get|stat|ls|read|advisory|try_advisory)|lo_|txid_)')
