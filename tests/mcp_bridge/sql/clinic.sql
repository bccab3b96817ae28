CREATE TYPE urgency AS ENUM ('low', 'mid', 'high');
GRANT USAGE ON TYPE urgency TO PUBLIC;
CREATE TABLE patients (patient_id int PRIMARY KEY, full_name text NOT NULL, born date, district text, mother_id int, tags text[] NOT NULL);
CREATE TABLE visits (visit_id int PRIMARY KEY, patient_id int NOT NULL, seen_at timestamptz NOT NULL, urgency urgency NOT NULL, weight_kg numeric(6,2), answers jsonb NOT NULL);
CREATE TABLE "Odd Name" ("select" text, "Weird Col" int, region text, version text);
CREATE VIEW v_monthly AS SELECT date_trunc('month', seen_at) AS month, count(*) AS visits FROM visits GROUP BY 1;
INSERT INTO patients SELECT g, (ARRAY['Ana','Ben','Chi','Dov'])[1 + g % 4] || ' ' || g, date '1980-01-01' + g * 700, (ARRAY['north','south','west'])[1 + g % 3], CASE WHEN g > 3 THEN g / 2 END, ARRAY['a', 'b' || g] FROM generate_series(1, 12) g;
INSERT INTO visits SELECT g, 1 + g % 12, timestamptz '2024-01-01 08:00+00' + g * interval '17 hours', (ARRAY['low','mid','high'])[1 + g % 3]::urgency, 50 + g * 1.25, jsonb_build_object('age', g, 'sex', (ARRAY['f','m'])[1 + g % 2], 'meds', jsonb_build_array('m' || g % 3, g % 4)) FROM generate_series(1, 40) g;
INSERT INTO "Odd Name" VALUES ('one', 1, 'r1', 'v1'), ('two', 2, 'r2', 'v2');
