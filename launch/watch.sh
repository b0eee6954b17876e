# shellcheck shell=bash
# Sourced by the scripts whose machine may be taken away. They have functions
# state, create, delete, setup and run.

# What a watch cannot do without. Options: --interval, --restarts.
read_watch() {
  need_numbers interval=30 restarts=100
  [[ ${given[workdir]} == /* ]] ||
    fail "--workdir=${given[workdir]} lies on the machine and is lost with it;" \
      'a mounted bucket keeps it: --bucket=NAME --workdir=/mnt/NAME/...'
}

# watch READY GONE: trains on a machine in state READY, and replaces one in a
# state that matches GONE, until the training has ended. Returns its exit code.
watch() {
  local ready=$1 gone=$2 left=${given[restarts]} now code=75
  if [[ -n ${given[dry_run]-} ]]; then
    show_watch "$@"
    return
  fi
  while true; do
    now=$(state) || now=MISSING
    echo "${given[name]}: $now" >&2
    if [[ $now == "$ready" ]]; then
      if setup; then
        code=0
        run || code=$?
        has_ended "$code" "$ready" && return "$code"
      fi
    elif [[ $now == MISSING ]]; then
      create || true
    elif [[ $now =~ ^($gone)$ ]]; then
      delete && create || true
    else
      sleep "${given[interval]}" # it is changing by itself
      continue
    fi
    ((left-- > 0)) || break
    sleep "${given[interval]}"
  done
  echo "error: gave up; --restarts=N allows more" >&2
  return "$code"
}

# has_ended CODE READY: gcloud exits with 1 as well when the machine under it
# has gone, so a failure counts if the machine is still there.
has_ended() {
  ! again "$1" && { (($1 == 0)) || [[ $(state) == "$2" ]]; }
}

# show_watch READY GONE: each command of a watch once.
show_watch() {
  state
  echo "# if it is $2"
  delete
  create
  echo "# when it is $1; from the top on exit code 75 or a signal's"
  setup
  run
}
