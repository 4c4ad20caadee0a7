# Sourced: a private PostgreSQL on a free port of 127.0.0.1, gone with `postgres_stop`. Needs packages.sh.
# shellcheck shell=bash

pg_dir="" pg_port="" pg_bin="" pg_options=""

# Runs a command as the user who may run a database server: postgres if we are root, else ourselves.
as_postgres() {
  if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

# postgres_start: sets pg_port; the superuser is `postgres`, reached through the socket in $pg_dir.
postgres_start() {
  need '/usr/lib/postgresql/*/bin/initdb:postgresql' psql:postgresql-client
  pg_bin=$(dirname "$(compgen -G '/usr/lib/postgresql/*/bin/initdb' | sort -V | tail -n 1)")
  pg_dir=$(mktemp -d /tmp/nbs-pg.XXXXXX)
  pg_port=$(free_port)
  [ "$(id -u)" != 0 ] || chown postgres: "$pg_dir"
  as_postgres "$pg_bin/initdb" -D "$pg_dir/data" -U postgres --auth-local=trust --auth-host=scram-sha-256 \
    -E UTF8 --locale=C.UTF-8 --no-sync >"$pg_dir.log" 2>&1 || { cat "$pg_dir.log" >&2; return 1; }
  pg_options="-p $pg_port -k $pg_dir -c listen_addresses=127.0.0.1 -c fsync=off"
  as_postgres "$pg_bin/pg_ctl" -D "$pg_dir/data" -w -t 60 -l "$pg_dir/server.log" -o "$pg_options" start >>"$pg_dir.log" 2>&1 </dev/null \
    || { cat "$pg_dir.log" "$pg_dir/server.log" >&2; return 1; }
}

# postgres_sql STATEMENT: as superuser.
postgres_sql() { psql -h "$pg_dir" -p "$pg_port" -U postgres -d postgres -q -v ON_ERROR_STOP=1 -c "$1" >/dev/null; }

# The server goes away, and comes back on the same port with what it had.
postgres_pause() { as_postgres "$pg_bin/pg_ctl" -D "$pg_dir/data" -m fast stop >/dev/null </dev/null; }
postgres_resume() {
  as_postgres "$pg_bin/pg_ctl" -D "$pg_dir/data" -w -t 60 -l "$pg_dir/server.log" -o "$pg_options" start >/dev/null </dev/null
}

postgres_stop() {
  [ -n "$pg_dir" ] || return 0
  as_postgres "$pg_bin/pg_ctl" -D "$pg_dir/data" -m immediate stop >/dev/null 2>&1 </dev/null || true
  rm -rf "$pg_dir" "$pg_dir.log"
  pg_dir=""
}
