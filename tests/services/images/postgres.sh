#!/bin/sh
# As the official image: a cluster at first start, with the user, password and database of the variables.
set -eu
as() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
chown postgres:postgres "$PGDATA"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    word=$(mktemp)
    printf '%s\n' "$POSTGRES_PASSWORD" > "$word"
    chown postgres "$word"
    as initdb --username="$POSTGRES_USER" --pwfile="$word" --auth=scram-sha-256 >/dev/null
    rm "$word"
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    as pg_ctl -w start -o "-c listen_addresses=" >/dev/null
    PGPASSWORD=$POSTGRES_PASSWORD as createdb --username="$POSTGRES_USER" "$POSTGRES_DB"
    as pg_ctl -w stop >/dev/null
fi
exec setpriv --reuid=postgres --regid=postgres --init-groups postgres -c "listen_addresses=*"
