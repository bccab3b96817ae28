CREATE TYPE mood AS ENUM ('RIVAL_SECRET_ENUM');
CREATE TABLE patients (patient_id int, full_name text);
CREATE TABLE secret_plans (body text);
INSERT INTO patients SELECT g, 'RIVAL_SECRET_' || g FROM generate_series(1, 50) g;
INSERT INTO secret_plans VALUES ('RIVAL_SECRET_PLAN');
CREATE FUNCTION f_rival() RETURNS text LANGUAGE sql AS $$ SELECT 'RIVAL_SECRET_FUNCTION'::text $$;
