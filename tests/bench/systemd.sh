#!/usr/bin/env bash
# Units started in a row by nothing but our own way to systemd, in a release build: what the daemon's figures are measured
# against. Prints starts a second and our own processor time for each, on a bookworm and then on a trixie. Needs root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec cargo test --locked --release --test systemd_bus -- --nocapture --test-threads=1 three_hundred_starts
