#!/usr/bin/env bash
# Start, crash, memory and idle figures of the process adapter beside supervisord, in one run on one machine.
#
#   tests/bench/process.sh              about eight minutes; prints a table for docs/benchmarks.md
#   tests/bench/process.sh --quick      a tenth of everything, once, to see that it works
#
# NBS_BIN names the binary; without it the release binary is built.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=tests/support/packages.sh
. "$root/tests/support/packages.sh"
need python3:python3 supervisord:supervisor

if [ -z "${NBS_BIN:-}" ]; then
  (cd "$root" && echo "+ cargo build --release" >&2 && cargo build --release --locked)
  export NBS_BIN=${CARGO_TARGET_DIR:-$root/target}/release/nbsupervisor
fi
ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"
exec python3 "$root/tests/bench/process.py" "$@"
