#!/usr/bin/env bash
# Starts of units by the daemon beside a bare loop that has systemd do the same, and what the daemon takes with many
# units, on a machine of its own. Prints a table. NBS_BIN names the binary. Needs root.
#
#   tests/bench/systemd.sh [bookworm|trixie] [--quick]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tests/support/packages.sh
. tests/support/packages.sh

[ "$(id -u)" = 0 ] || give_up "the machine that this measures needs root: run it as root"
need python3:python3 systemd-nspawn:systemd-container mmdebstrap:mmdebstrap unshare:util-linux ip:iproute2
export NBS_BIN=${NBS_BIN:-${CARGO_TARGET_DIR:-$PWD/target}/release/nbsupervisor}
[ -x "$NBS_BIN" ] || give_up "$NBS_BIN is not there: build it with cargo build --release, or set NBS_BIN"
exec python3 -B tests/bench/systemd.py "$@"
