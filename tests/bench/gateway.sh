#!/usr/bin/env bash
# CPU per request and latency of the gateway beside nginx, in one run on one machine, in front of the same app.
#
#   tests/bench/gateway.sh              about three minutes; prints a table for docs/benchmarks-gateway.md
#   tests/bench/gateway.sh --quick      a few seconds of each, to see that it works
#
# NBS_BIN names the binary; without it the release binary is built.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=tests/support/packages.sh
. "$root/tests/support/packages.sh"
need python3:python3 /usr/sbin/nginx:nginx-light wrk:wrk

if [ -z "${NBS_BIN:-}" ]; then
  (cd "$root" && echo "+ cargo build --release" >&2 && cargo build --release --locked)
  export NBS_BIN=${CARGO_TARGET_DIR:-$root/target}/release/nbsupervisor
fi
exec python3 "$root/tests/bench/gateway.py" "$@"
