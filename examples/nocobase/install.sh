#!/usr/bin/env bash
# Installs NocoBase from the npm registry into a folder: ./install.sh [FOLDER]   (default /opt/nocobase)
#
# One folder serves any number of apps; each app has its own storage, port, database and secret.
# Running it again on a finished folder does nothing; remove the folder's file `.installed` to install afresh.
# The registry is the one that npm is configured for; no registry is named here.
set -euo pipefail

target=${1:-/opt/nocobase}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
yarn_version=1.22.22

fail() { echo "install.sh: $*" >&2; exit 1; }

for tool in node npm sha256sum; do
  command -v "$tool" >/dev/null || fail "$tool is missing; install Node.js 20 with npm first"
done
major=$(node -p 'process.versions.node.split(".")[0]')
[ "$major" -ge 20 ] || fail "Node.js $major is too old; NocoBase 2.2 wants 20 or newer"

mkdir -p "$target"
install -m 755 "$here/upgrade.sh" "$target/upgrade.sh"
mark=$(sha256sum "$here/package.json" | cut -d' ' -f1)
if [ "$(cat "$target/.installed" 2>/dev/null)" = "$mark" ]; then
  echo "NocoBase is installed in $target"
  exit 0
fi

mkdir -p "$target/.yarn-tool"
cmp -s "$here/package.json" "$target/package.json" || cp "$here/package.json" "$target/package.json"

yarn="$target/.yarn-tool/node_modules/.bin/yarn"
if [ ! -x "$yarn" ]; then
  echo "+ npm install yarn@$yarn_version"
  (cd "$target/.yarn-tool" && npm install --no-audit --no-fund --no-save --prefix . "yarn@$yarn_version" </dev/null)
fi

cd "$target"
echo "+ yarn install --production   (about 1.1 GB, one to three minutes)"
"$yarn" install --ignore-engines --non-interactive --network-timeout 300000 --production --ignore-scripts \
  --registry "$(npm config get registry)" </dev/null

# The page of the web client is rendered once per folder; any command of the launcher does it. These three paths are
# therefore the same for every app of this folder.
# The launcher reads this file of its own developers at start; an empty one will do.
touch .env.e2e.example
echo "+ nocobase-v1 --version   (renders the web client's page)"
env APP_ENV=production APP_PUBLIC_PATH=/ API_BASE_PATH=/api/ WS_PATH=/ws PLUGIN_STATICS_PATH=/static/plugins/ \
  node_modules/.bin/nocobase-v1 --version </dev/null
page=node_modules/@nocobase/app/dist/client/index.html
[ -s "$page" ] || fail "$target/$page was not rendered; read the lines above"

# Apps may run as another user: the folder is theirs to read, not to write.
chmod -R a+rX "$target"
echo "$mark" > .installed
echo "NocoBase $(node -p 'require("./node_modules/@nocobase/app/package.json").version') is installed in $target"
