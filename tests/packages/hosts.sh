# Sourced by tests/packages/run: what becomes of a booted host, its daemon and its apps as the package comes and goes.
# shellcheck shell=bash
#
# Two apps run all the while: one that the daemon started, and a unit in the apps' slice, as the systemd adapter makes
# them. Deliberately absent: what the daemon does with apps, which tests/systemd tries.

# newer_deb DEB TO: the same package as a newer version, in which two configuration files have another line.
newer_deb() {
  local tree=${2%.deb}.tree file
  dpkg-deb -R "$1" "$tree" || return 1
  sed -i 's/^Version: .*/&+newer/' "$tree/DEBIAN/control"
  for file in nbsupervisor.toml runtimes.d/static.toml; do
    echo '# a line of the newer version' >>"$tree/etc/nbsupervisor/$file"
  done
  dpkg-deb --root-owner-group -Zgzip -z1 -b "$tree" "$2" >/dev/null && rm -rf "$tree"
}

# rpm_parts RPM TO: its files and its scripts, for a host that has no rpm.
rpm_parts() {
  mkdir -p "$2/files"
  (cd "$2/files" && rpm2cpio "$1" | cpio -idm --quiet) || return 1
  rpm -qp --qf '%{POSTIN}\n' "$1" >"$2/post"
  rpm -qp --qf '%{PREUN}\n' "$1" >"$2/preun"
  rpm -qp --qf '%{POSTUN}\n' "$1" >"$2/postun"
}

daemon_pid() { inside systemctl show -P MainPID nbsupervisor.service; }
daemon_runs() { [ "$(inside systemctl is-active nbsupervisor.service)" = active ]; }
daemon_is_off() { [ "$(inside systemctl is-active nbsupervisor.service)" = inactive ] && [ "$(daemon_pid)" = 0 ]; }
daemon_failed() { [ "$(inside systemctl show -P Result nbsupervisor.service)" = exit-code ] && ! daemon_runs; }
enabled_is() { [ "$(inside systemctl is-enabled nbsupervisor.service)" = "$1" ]; }
there() { inside test -e "$1"; }
gone() { ! inside test -e "$1"; }
says() { inside grep -qx -- "$1" "$2"; }

# Each app's process ID and the moment of its start.
apps() {
  local pid
  for pid in "$site_pid" "$(inside systemctl show -P MainPID nbs-app-probe.service)"; do
    echo "$pid $(inside cut -d ' ' -f 22 "/proc/$pid/stat")" || return 1
  done
}
apps_are_the_same() { diff <(echo "$apps_before") <(apps); }
restarted() { daemon_runs && [ "$(daemon_pid)" != "$pid_before" ]; }
start_apps() {
  inside nbsupervisor app create site --runtime static --env ROOT=/usr/share/doc/nbsupervisor/examples/static --start-mode with-supervisor \
    && inside systemd-run --quiet --unit=nbs-app-probe --slice=nbsupervisor-apps.slice sleep infinity || return 1
  site_pid=$(inside nbsupervisor --output json app show site | python3 -c 'import json, sys; print(json.load(sys.stdin)["instances"][0]["pid"])')
  apps_before=$(apps) && [ "$(wc -w <<<"$apps_before")" = 4 ]
}
visitor() { inside curl -fsS -o /dev/null http://127.0.0.1:13000/apps/site/; }

apt() { inside apt-get -q -y --no-install-recommends -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 "$@"; }
bus_allows() { inside python3 /packages/match_rules.py "$1"; }
bus_refuses() { ! bus_allows "$1"; }

# What the daemon's work takes, under exactly the restrictions of its unit.
can_do_its_job() {
  local properties=() line
  while read -r line; do properties+=(-p "$line"); done \
    < <(inside systemctl show -p CapabilityBoundingSet -p RestrictAddressFamilies nbsupervisor.service)
  [ "${#properties[@]}" = 4 ] || return 1
  # shellcheck disable=SC2016 # for the shell in there
  inside systemd-run --quiet --wait --pipe "${properties[@]}" sh -euxc '
    ! grep -q "^CapBnd:.*ffffffffff$" /proc/self/status
    busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager StartTransientUnit \
      "ssa(sv)a(sa(sv))" nbs-app-restricted.service fail 1 ExecStart "a(sasb)" 1 /bin/sleep 2 /bin/sleep infinity false 0
    busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager StopUnit \
      ss nbs-app-restricted.service replace
    setpriv --reuid=65534 --regid=65534 --clear-groups sleep infinity & other=$!
    until grep -q "^Uid:.*65534" "/proc/$other/status"; do :; done
    cat "/proc/$other/environ" >/dev/null
    kill "$other"
    mkdir "/sys/fs/cgroup/nbs-restricted" && rmdir "/sys/fs/cgroup/nbs-restricted"
    prlimit --nofile=4096:4096 true
    python3 -c "import socket; socket.create_server((\"127.0.0.1\", 80))"
  '
}

life_of_a_deb() {
  local suite=$1 pid_before apps_before='' site_pid=''
  check "$suite: the bus refuses more than 512 match rules by itself" bus_refuses 700
  check "$suite: apt installs the package" apt install /packages/nbsupervisor.deb
  check "$suite: it is disabled" enabled_is disabled
  check "$suite: it is not started" daemon_is_off
  check "$suite: there is the group" inside getent group nbsupervisor
  check "$suite: there is the apps' run directory" there /run/nbsupervisor-apps
  check "$suite: the bus has its new limit without a restart" bus_allows 700
  check "$suite: systemctl enable --now starts it" inside systemctl enable --now nbsupervisor
  check "$suite: apps start" start_apps
  check "$suite: a visitor is brought to one" visitor
  check "$suite: the unit's restrictions allow what the daemon does" can_do_its_job

  inside sed -i 's/^#hold_timeout = .*/hold_timeout = "31s"/' /etc/nbsupervisor/nbsupervisor.toml
  pid_before=$(daemon_pid)
  check "$suite: apt upgrades it" apt install /packages/newer.deb
  check "$suite: the daemon was restarted" restarted
  check "$suite: the apps were not" apps_are_the_same
  check "$suite: it is still enabled" enabled_is enabled
  check "$suite: a configuration that was edited is kept" says 'hold_timeout = "31s"' /etc/nbsupervisor/nbsupervisor.toml
  check "$suite: one that was not is renewed" says '# a line of the newer version' /etc/nbsupervisor/runtimes.d/static.toml
  check "$suite: a visitor is brought to the adopted app" eventually 10 "an answer" visitor
  pid_before=$(daemon_pid)
  check "$suite: apt install --reinstall works" apt install --reinstall /packages/newer.deb
  check "$suite: the daemon was restarted once more" restarted
  check "$suite: the apps were not" apps_are_the_same
  inside systemctl stop nbsupervisor
  check "$suite: a daemon that is stopped" daemon_is_off
  check "$suite: can be reinstalled" apt install --reinstall /packages/newer.deb
  check "$suite: and is not started by that" daemon_is_off
  inside systemctl start nbsupervisor
  inside sh -c 'echo "nonsense = 1" >/etc/nbsupervisor/nbsupervisor.d/50-bad.toml'
  check "$suite: a bad configuration does not break an upgrade" apt install --reinstall /packages/newer.deb
  check "$suite: and a daemon with it does not run" daemon_failed
  inside rm /etc/nbsupervisor/nbsupervisor.d/50-bad.toml
  check "$suite: mended, it comes back by itself" eventually 10 "the daemon" daemon_runs
  check "$suite: the apps ran on" apps_are_the_same

  check "$suite: apt removes it" apt remove nbsupervisor
  check "$suite: and says how apps are stopped" grep -q 'nbsupervisor stop-all' "$work/before"
  check "$suite: the daemon is off" daemon_is_off
  check "$suite: the apps run on" apps_are_the_same
  check "$suite: configuration is left" says 'hold_timeout = "31s"' /etc/nbsupervisor/nbsupervisor.toml
  check "$suite: data is left" there /var/lib/nbsupervisor/apps
  check "$suite: apt purges it" apt purge nbsupervisor
  check "$suite: and says where data is" grep -q 'are left in /var/lib/nbsupervisor' "$work/before"
  check "$suite: data is left after that" there /var/lib/nbsupervisor/apps
  check "$suite: configuration is gone" gone /etc/nbsupervisor
  check "$suite: variables are gone" gone /etc/default/nbsupervisor
  check "$suite: the link that enabled it is gone" inside test ! -L /etc/systemd/system/multi-user.target.wants/nbsupervisor.service
  check "$suite: the daemon's run directory is gone" gone /run/nbsupervisor
  check "$suite: the apps still run on" apps_are_the_same
  check "$suite: the bus has its old limit" bus_refuses 700
  check "$suite: apt installs it again" apt install /packages/nbsupervisor.deb
  check "$suite: it is disabled as at first" enabled_is disabled
  inside systemctl start nbsupervisor
  check "$suite: and finds its apps" eventually 10 "the adopted app" visitor
  check "$suite: which are the same" apps_are_the_same
  # For what comes next on this machine.
  apt purge nbsupervisor >/dev/null 2>&1
}

# What rpm runs on an upgrade, with the number of versions that are installed: the old package's scripts come last.
rpm_script() { inside sh "/packages/rpm/$1" "$2"; }
put_rpm_files() { inside cp -a --remove-destination /packages/rpm/files/. / && rpm_script post "$1"; }

life_of_an_rpm() {
  local pid_before apps_before='' site_pid=''
  # The apps of the life before belong to a record that is about to go.
  inside systemctl stop nbsupervisor-apps.slice
  inside rm -rf /var/lib/nbsupervisor
  inside groupdel nbsupervisor
  check "rpm: %post works on a host without the group" put_rpm_files 1
  check "rpm: there is the group" inside getent group nbsupervisor
  check "rpm: there is the apps' run directory" there /run/nbsupervisor-apps
  check "rpm: it is not started" daemon_is_off
  check "rpm: the bus has its new limit without a restart" bus_allows 700
  check "rpm: systemctl enable --now starts it" inside systemctl enable --now nbsupervisor
  check "rpm: apps start" start_apps
  pid_before=$(daemon_pid)
  check "rpm: %post of an upgrade" put_rpm_files 2
  check "rpm: %preun of an upgrade" rpm_script preun 1
  check "rpm: %postun of an upgrade" rpm_script postun 1
  check "rpm: the daemon was restarted" restarted
  check "rpm: the apps were not" apps_are_the_same
  check "rpm: it is still enabled" enabled_is enabled
  check "rpm: %preun of an erasure" rpm_script preun 0
  check "rpm: the daemon is off" daemon_is_off
  check "rpm: it is disabled" enabled_is disabled
  check "rpm: %postun of an erasure works" rpm_script postun 0
  cp "$work/out" "$work/said"
  check "rpm: and says how apps are stopped" grep -q 'nbsupervisor stop-all' "$work/said"
  check "rpm: and says where data is" grep -q 'are left in /var/lib/nbsupervisor' "$work/said"
  check "rpm: the apps run on" apps_are_the_same
}
