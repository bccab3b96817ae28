#!/bin/sh
# Makes the secrets of compose.yaml, at random, in ./secrets; those that are there stay. Keep that folder: without secret_keys every
# credential is lost.
set -eu
cd "$(dirname "$0")"
mkdir -p secrets
# Nobody else gets through the folder. The files are read in containers by an account that has no name here.
chmod 700 secrets
random() { python3 -c 'import base64, os, sys; print(base64.urlsafe_b64encode(os.urandom(int(sys.argv[1]))).decode().rstrip("=") + sys.argv[2])' "$1" "${2-}"; }
keep() {
    [ -e "secrets/$1" ] || printf '%s\n' "$2" > "secrets/$1"
    chmod 444 "secrets/$1"
}
keep postgres_password "$(random 24)"
keep redis_password "$(random 24)"
keep database_url "postgresql://postgres:$(cat secrets/postgres_password)@postgres:5432/postgres"
keep catalog_url "postgresql://explorer_service:$(random 24)@postgres:5432/explorer"
keep catalog_owner_url "postgresql://explorer_catalog:$(random 24)@postgres:5432/explorer"
keep dagster_database_url "postgresql://dagster:$(random 24)@postgres:5432/dagster"
keep celery_broker_url "redis://:$(cat secrets/redis_password)@redis:6379/0"
# 32 bytes in URL-safe base64, with their padding.
keep secret_keys "$(random 32 =)"
keep audit_key "$(random 32 =)"
keep installation_key "$(random 32)"
keep dagster_token "$(random 32)"
