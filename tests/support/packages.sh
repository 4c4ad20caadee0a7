# Sourced by ./test and by the shell suites: makes sure that programs are there.
# shellcheck shell=bash

# Says on stderr why nothing can go on, and ends with 1.
give_up() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# need PROGRAM:PACKAGE…: installs the packages of the programs that are missing; without root it says which and ends.
# A program with a / in it is a pattern of paths.
need() {
  local pair program missing=()
  for pair in "$@"; do
    program=${pair%%:*}
    if [[ $program == */* ]]; then
      compgen -G "$program" >/dev/null || missing+=("${pair#*:}")
    else
      command -v "$program" >/dev/null || missing+=("${pair#*:}")
    fi
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || give_up "missing packages: ${missing[*]} (install them, or run as root)"
  command -v apt-get >/dev/null || give_up "missing packages: ${missing[*]} (and there is no apt-get to install them with)"
  if [ -z "${NBS_APT_UPDATED:-}" ]; then
    echo "+ apt-get update" >&2
    apt-get update -q </dev/null >&2 || give_up "apt-get update failed"
    export NBS_APT_UPDATED=1
  fi
  echo "+ apt-get install ${missing[*]}" >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" </dev/null >&2 \
    || give_up "apt-get install ${missing[*]} failed"
}

# The moment in milliseconds, for differences.
now_ms() { date +%s%3N; }

# eventually SECONDS WHAT COMMAND…: asks again and again until the command succeeds; says what it waited for if not.
eventually() {
  local limit=$1 what=$2 until
  shift 2
  until=$(($(now_ms) + limit * 1000))
  until "$@"; do
    if [ "$(now_ms)" -ge "$until" ]; then
      echo "waited $limit s in vain for: $what" >&2
      return 1
    fi
    sleep 0.1 # pause between two questions of a wait on a fact
  done
}

# free_port: a TCP port of 127.0.0.1 that nobody has at this moment.
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# end_process PID SECONDS: SIGTERM, and SIGKILL if it is still there after so many seconds.
end_process() {
  kill -TERM "$1" 2>/dev/null || return 0
  eventually "$2" "the end of process $1" process_gone "$1" 2>/dev/null || kill -KILL "$1" 2>/dev/null || true
}

# process_gone PID: whether it has ended (a zombie has).
process_gone() {
  local state
  state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null) || return 0
  [ -z "$state" ] || [ "$state" = Z ]
}
