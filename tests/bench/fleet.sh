#!/usr/bin/env bash
# An entry with a worker, and an entry with many simulated ones, with a real Redis between them: how long a command
# takes, what the entry takes at rest, how fast it lists and comes back. Prints tables for docs/benchmarks-fleet.md.
#
#   tests/bench/fleet.sh              about four minutes
#   tests/bench/fleet.sh --quick      a tenth of everything, to see that it works
#
# NBS_BIN names the binary; without it the release binary is built. NBS_ENVIRONMENTS and NBS_APPS are other numbers of
# simulated environments and of apps in each than 200 and 50. Many more of them want a player that keeps up, which
# NBS_FLEET_LOAD names: CARGO_PROFILE_DEV_OPT_LEVEL=2 cargo build --bench fleet_load --target-dir DIRECTORY
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tests/support/packages.sh
. tests/support/packages.sh
need python3:python3 redis-server:redis-server

if [ -z "${NBS_BIN:-}" ]; then
  echo "+ cargo build --release" >&2
  cargo build --release --locked
  export NBS_BIN=${CARGO_TARGET_DIR:-$PWD/target}/release/nbsupervisor
fi
if [ -z "${NBS_FLEET_LOAD:-}" ]; then
  # As the tests are built: what it costs is not what is measured, and it is there already after they ran.
  echo "+ cargo build --bench fleet_load" >&2
  NBS_FLEET_LOAD=$(cargo build --locked --bench fleet_load --message-format=json \
    | python3 -c 'import json, sys
for line in sys.stdin:
    built = json.loads(line)
    if built.get("executable") and built["target"]["name"] == "fleet_load":
        print(built["executable"])')
fi
export NBS_FLEET_LOAD
ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"
exec python3 -B tests/bench/fleet.py "$@"
