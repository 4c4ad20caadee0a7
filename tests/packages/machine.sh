# Sourced by tests/packages/run: one booted Debian at a time, whose disk is in memory over a cached root file system.
# shellcheck shell=bash
#
# The machine hangs on this shell: it dies with it. Deliberately absent: what is done in the machine. Tests in Rust have
# tests/support/machine.rs, which can do more.

machine_nspawn='' machine_init='' machine_group=''

# Runs in mounts and a network of its own, and becomes nspawn: disk, loopback, control group.
# shellcheck disable=SC2016 # for the shell in there
machine_ground='
ip link set lo up
mount -t tmpfs -o mode=755 machine "$1"
mkdir -p "$1/upper" "$1/work" "$1/root" /run/systemd/nspawn
mount -t tmpfs nspawn /run/systemd/nspawn
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" root "$1/root"
cp -R "$3" "$1/root/packages"
echo $$ >"$4/cgroup.procs"
shift 4
exec systemd-nspawn "$@"
'

# boot SUITE PACKAGES WORK: boots a fresh machine, with a copy of the folder PACKAGES as /packages. Its console is WORK/console.
boot() {
  local disk=$3/machine lower options=()
  lower=$("$root/tests/support/rootfs" "$1") || return 1
  mkdir -p "$disk"
  machine_group=/sys/fs/cgroup/unified
  [ -d "$machine_group" ] || machine_group=/sys/fs/cgroup
  machine_group+=/nbs-packages-$$
  mkdir -p "$machine_group"
  # Without a systemd on this machine there is nobody to ask for a scope.
  [ -d /run/systemd/system ] || options+=(--keep-unit)
  SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 setpriv --pdeathsig KILL \
    unshare --mount --net --propagation private sh -euc "$machine_ground" sh "$disk" "$lower" "$2" "$machine_group" \
    --quiet --register=no "${options[@]}" --boot --console=pipe --machine="nbs-packages-$$" --directory="$disk/root" \
    </dev/null >"$3/console" 2>&1 &
  machine_nspawn=$!
  eventually 60 "a machine that has booted" has_booted && [ -n "$machine_init" ] || { cat "$3/console"; return 1; }
}

# The systemd that is PID 1 of the machine: a grandchild at most, and only once it is systemd.
find_init() {
  local pid
  for pid in $(pgrep -P "$machine_nspawn") $(pgrep -P "$(pgrep -d, -P "$machine_nspawn")" 2>/dev/null); do
    if grep -q '^NSpid:.*[[:space:]]1$' "/proc/$pid/status" 2>/dev/null && [ "$(cat "/proc/$pid/comm")" = systemd ]; then
      machine_init=$pid
      return 0
    fi
  done
  return 1
}

has_booted() {
  # A container that ended says why on its console; waiting for it would only take time.
  kill -0 "$machine_nspawn" 2>/dev/null || return 0
  find_init || return 1
  case $(inside systemctl is-system-running 2>/dev/null) in running | degraded) return 0 ;; *) return 1 ;; esac
}

# inside COMMAND…: runs it in the machine, with no terminal and a plain environment.
inside() {
  nsenter -t "$machine_init" -a env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
    DEBIAN_FRONTEND=noninteractive timeout 120 "$@" </dev/null
}

group_removed() {
  find "$machine_group" -depth -type d -exec rmdir {} + 2>/dev/null
  [ ! -d "$machine_group" ]
}

# Ends the machine at once, with all that runs in it.
machine_off() {
  [ -z "$machine_init" ] || kill -KILL "$machine_init" 2>/dev/null
  [ -z "$machine_nspawn" ] || { kill -KILL "$machine_nspawn" 2>/dev/null; wait "$machine_nspawn" 2>/dev/null; }
  [ -z "$machine_group" ] || eventually 10 "the end of the machine's processes" group_removed
  machine_nspawn='' machine_init='' machine_group=''
}
