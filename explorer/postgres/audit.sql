-- The audit trail. Everything here belongs to explorer_audit, a role that nobody logs in as; it is made by an administrator who acts
-- as that role for the moment. Other logins read, and add through `append`.
--
-- Each entry holds the hash of the one before: who changes, removes or inserts one must compute all later ones anew, and then the
-- heads that the platform has signed and logged do not fit. `explorer.catalog.audit` computes the same hashes.
CREATE TABLE IF NOT EXISTS audit.entries (
    id bigint PRIMARY KEY,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    tenant_key text,
    outcome text NOT NULL,
    code text,
    detail jsonb NOT NULL,
    duration_ms integer,
    previous bytea NOT NULL,
    hash bytea NOT NULL
);
CREATE INDEX IF NOT EXISTS entries_actor ON audit.entries (actor, id);
CREATE INDEX IF NOT EXISTS entries_tenant ON audit.entries (tenant_key, id);

-- The newest entry's id and hash; one row, whose lock is the chain's.
CREATE TABLE IF NOT EXISTS audit.head (
    is_one boolean PRIMARY KEY DEFAULT true CHECK (is_one),
    id bigint NOT NULL,
    hash bytea NOT NULL
) WITH (fillfactor = 10);
INSERT INTO audit.head (id, hash) VALUES (0, sha256('explorer audit')) ON CONFLICT DO NOTHING;

-- Ranges of entries that are closed. `exported`: they are in a file of this SHA-256, and no longer in `entries`.
-- `taken_over`: they were written before entries were chained, and chained when this table was made.
CREATE TABLE IF NOT EXISTS audit.segments (
    kind text NOT NULL CHECK (kind IN ('taken_over', 'exported')),
    first_id bigint NOT NULL,
    last_id bigint NOT NULL CHECK (last_id >= first_id),
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    entries bigint NOT NULL,
    previous bytea NOT NULL,
    hash bytea NOT NULL,
    file_sha256 bytea CHECK ((kind = 'exported') = (file_sha256 IS NOT NULL)),
    sealed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (kind, last_id)
);

-- Over the hash before and all fields, each with its length, so that no two sequences of fields have the same bytes. One expression:
-- functions in SQL that cannot be put into the query in their place cost more than the hash.
CREATE OR REPLACE FUNCTION audit.hash_of(e audit.entries) RETURNS bytea LANGUAGE plpgsql STABLE AS $body$
DECLARE
    id text := e.id;
    at_us text := (extract(epoch FROM e.at) * 1000000)::bigint;
    detail text := e.detail;
    duration text := e.duration_ms;
BEGIN
    RETURN sha256(e.previous || convert_to(
        octet_length(id) || ':' || id || octet_length(at_us) || ':' || at_us
        || octet_length(e.actor) || ':' || e.actor || octet_length(e.action) || ':' || e.action
        || coalesce(octet_length(e.tenant_key) || ':' || e.tenant_key, '-') || octet_length(e.outcome) || ':' || e.outcome
        || coalesce(octet_length(e.code) || ':' || e.code, '-') || octet_length(detail) || ':' || detail
        || coalesce(octet_length(duration) || ':' || duration, '-'), 'UTF8'));
END
$body$;

-- Adds the entries of a JSON array in their order; returns the id of the last one. They cannot be dated. Whoever appends waits
-- for the transaction of the one before.
CREATE OR REPLACE FUNCTION audit.append(given jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    entry audit.entries;
    added audit.entries[];
    each jsonb;
BEGIN
    SELECT h.id, h.hash INTO STRICT entry.id, entry.hash FROM audit.head h FOR UPDATE;
    entry.at := clock_timestamp();
    FOR each IN SELECT value FROM jsonb_array_elements(given) LOOP
        entry.previous := entry.hash;
        entry.id := entry.id + 1;
        entry.actor := each ->> 'actor';
        entry.action := each ->> 'action';
        entry.tenant_key := each ->> 'tenant_key';
        entry.outcome := each ->> 'outcome';
        entry.code := each ->> 'code';
        entry.detail := coalesce(each -> 'detail', '{}');
        entry.duration_ms := each ->> 'duration_ms';
        entry.hash := audit.hash_of(entry);
        added := array_append(added, entry);
    END LOOP;
    INSERT INTO audit.entries SELECT * FROM unnest(added);
    UPDATE audit.head SET id = entry.id, hash = entry.hash;
    RETURN entry.id;
END
$body$;

-- Chains the entries of the catalog's former table under their own ids and times, as the first segment. For the migration; refused
-- as soon as there are entries. Returns their number.
CREATE OR REPLACE FUNCTION audit.take_over() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    entry audit.entries;
    old record;
    count bigint := 0;
    start audit.entries;
BEGIN
    SELECT h.id, h.hash INTO STRICT entry.id, entry.hash FROM audit.head h FOR UPDATE;
    FOR old IN SELECT * FROM catalog.audit ORDER BY id LOOP
        IF count = 0 AND entry.id <> 0 THEN
            RAISE insufficient_privilege USING MESSAGE = 'the audit trail has entries already';
        END IF;
        entry.previous := entry.hash;
        entry.id := old.id;
        entry.at := old.at;
        entry.actor := old.actor;
        entry.action := old.action;
        entry.tenant_key := old.tenant_key;
        entry.outcome := old.outcome;
        entry.code := old.code;
        entry.detail := old.detail;
        entry.duration_ms := old.duration_ms;
        entry.hash := audit.hash_of(entry);
        INSERT INTO audit.entries VALUES (entry.*);
        IF count = 0 THEN
            start := entry;
        END IF;
        count := count + 1;
    END LOOP;
    IF count > 0 THEN
        UPDATE audit.head SET id = entry.id, hash = entry.hash;
        INSERT INTO audit.segments (kind, first_id, last_id, first_at, last_at, entries, previous, hash)
        VALUES ('taken_over', start.id, entry.id, start.at, entry.at, count, start.previous, entry.hash);
    END IF;
    RETURN count;
END
$body$;

-- Replaces all entries up to `last` by one row of `segments`; the caller has them in a file. `last_hash` says that the caller saw
-- these entries. Returns their number. Entries of the last day stay, whoever asks.
CREATE OR REPLACE FUNCTION audit.seal(last bigint, last_hash bytea, file_hash bytea) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    first_entry audit.entries;
    last_entry audit.entries;
    count bigint;
BEGIN
    PERFORM FROM audit.head FOR UPDATE;
    SELECT * INTO first_entry FROM audit.entries ORDER BY id LIMIT 1;
    SELECT * INTO last_entry FROM audit.entries WHERE id = last;
    IF last_entry.id IS NULL OR last_entry.hash <> last_hash OR octet_length(file_hash) <> 32 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'there is no such entry';
    END IF;
    IF last_entry.at > clock_timestamp() - interval '1 day' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'entries of the last day stay';
    END IF;
    DELETE FROM audit.entries WHERE id <= last;
    GET DIAGNOSTICS count = ROW_COUNT;
    INSERT INTO audit.segments (kind, first_id, last_id, first_at, last_at, entries, previous, hash, file_sha256)
    VALUES ('exported', first_entry.id, last, first_entry.at, last_entry.at, count, first_entry.previous, last_hash, file_hash);
    RETURN count;
END
$body$;

-- Stops honest mistakes of administrators. Only `seal` deletes, as the owner.
CREATE OR REPLACE FUNCTION audit.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    IF TG_OP = 'DELETE' AND current_user = 'explorer_audit' THEN
        RETURN NULL;
    END IF;
    RAISE insufficient_privilege USING MESSAGE = 'audit.' || TG_TABLE_NAME || ' is append-only';
END
$body$;
CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.entries
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.segments
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
-- ALWAYS: also where replication or a restore has turned ordinary triggers off.
ALTER TABLE audit.entries ENABLE ALWAYS TRIGGER append_only;
ALTER TABLE audit.segments ENABLE ALWAYS TRIGGER append_only;

REVOKE ALL ON ALL ROUTINES IN SCHEMA audit FROM PUBLIC;
GRANT USAGE ON SCHEMA audit TO explorer_service, explorer_catalog;
GRANT SELECT ON ALL TABLES IN SCHEMA audit TO explorer_service, explorer_catalog;
GRANT EXECUTE ON FUNCTION audit.append(jsonb) TO explorer_service;
GRANT EXECUTE ON FUNCTION audit.take_over(), audit.seal(bigint, bytea, bytea) TO explorer_catalog;
