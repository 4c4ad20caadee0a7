#!/bin/sh
# upgrade.sh NODE INDEX: brings an app's database up to the version of the program, while the app is stopped.
# NocoBase's own command ends with status 0 whatever happens, so its last words decide.
set -eu
mkdir -p "$STORAGE_PATH"
log=$STORAGE_PATH/upgrade.log
LOGGER_TRANSPORT=console LOGGER_LEVEL=info "$1" "$2" upgrade >"$log" 2>&1 || true
cat "$log"
grep -q 'NocoBase has been upgraded to v' "$log" && exit 0
echo "NocoBase did not say that it was upgraded; see above"
exit 1
