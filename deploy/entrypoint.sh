#!/bin/sh
# HOME is empty at each start of a container. What was made of the project when the image was built is laid there, so that no process
# has to read the models again; nothing else is set up.
set -eu
umask 077
if [ ! -e "$EXPLORER_HOME/dbt/project" ]; then
    mkdir -p "$EXPLORER_HOME/dbt"
    cp -R /opt/explorer/baked/dbt/project "$EXPLORER_HOME/dbt/project"
fi
exec "$@"
