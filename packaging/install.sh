#!/usr/bin/env bash
# install.sh BINARY DESTDIR [ZSH_DIR]: puts everything that a package contains below DESTDIR, the same for every format.
#
# BINARY is also run: it writes the manual pages and the completions, so they are those of this very program. ZSH_DIR is
# where the distribution looks for completions of zsh. Run from the top of the tree. Deliberately absent: what belongs
# to one format only, such as compression of the changelog, stripping, and the scripts that run on the host.
set -euo pipefail

binary=${1:?install.sh BINARY DESTDIR [ZSH_DIR]} to=${2:?install.sh BINARY DESTDIR [ZSH_DIR]}
zsh=${3:-/usr/share/zsh/site-functions}
doc=$to/usr/share/doc/nbsupervisor

# put MODE SOURCE TARGET
put() { install -D -m "$1" "$2" "$to$3"; }

put 755 "$binary" /usr/bin/nbsupervisor
put 644 units/nbsupervisor.service /usr/lib/systemd/system/nbsupervisor.service
put 644 units/nbsupervisor-apps.slice /usr/lib/systemd/system/nbsupervisor-apps.slice
put 644 units/user/nbsupervisor.service /usr/lib/systemd/user/nbsupervisor.service
put 644 units/nbsupervisor.sysusers /usr/lib/sysusers.d/nbsupervisor.conf
put 644 units/nbsupervisor.tmpfiles /usr/lib/tmpfiles.d/nbsupervisor.conf
put 644 packaging/nbsupervisor.dbus.conf /usr/share/dbus-1/system.d/nbsupervisor.conf

# It may hold an address with a password.
put 640 etc/default/nbsupervisor /etc/default/nbsupervisor
put 644 etc/nbsupervisor.toml /etc/nbsupervisor/nbsupervisor.toml
for file in etc/nbsupervisor.d/* etc/runtimes.d/*; do
  put 644 "$file" "/etc/nbsupervisor/${file#etc/}"
done

put 644 README.md /usr/share/doc/nbsupervisor/README.md
(umask 022 && cp -R --preserve=mode docs examples "$doc/")
# Whoever checked the tree out may have another umask.
chmod -R u=rwX,go=rX "$doc"

pages=$(mktemp -d)
trap 'rm -rf "$pages"' EXIT
"$binary" -q man --dir "$pages"
gzip -9n "$pages"/*
for page in "$pages"/*; do
  name=${page##*/} number=${page%.gz}
  put 644 "$page" "/usr/share/man/man${number##*.}/$name"
done

# complete SHELL TARGET
complete() {
  "$binary" completions "$1" >"$pages/completions"
  put 644 "$pages/completions" "$2"
}
complete bash /usr/share/bash-completion/completions/nbsupervisor
complete zsh "$zsh/_nbsupervisor"
complete fish /usr/share/fish/vendor_completions.d/nbsupervisor.fish
