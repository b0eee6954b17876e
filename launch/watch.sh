# shellcheck shell=bash
# Sourced by the scripts whose machine may be preempted. They define the
# functions state, create, delete, setup and run.

# Checks the options that a watch needs: --interval, --restarts, --workdir.
read_watch() {
  need_numbers interval=30 restarts=100
  [[ ${given[workdir]} == /* ]] ||
    fail "--workdir=${given[workdir]} must outlive the machine; use a mounted" \
      'bucket: --bucket=NAME --workdir=/mnt/NAME/...'
}

# watch READY GONE: trains on a machine in the state READY, and replaces one
# whose state matches GONE, until the training has ended. Returns its exit code.
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
      sleep "${given[interval]}" # the state is about to change
      continue
    fi
    ((left-- > 0)) || break
    sleep "${given[interval]}"
  done
  echo "error: gave up; --restarts=N allows more" >&2
  return "$code"
}

# has_ended CODE READY: gcloud also exits with 1 when the machine has been
# preempted, so a failure counts only if the machine is still there.
has_ended() {
  ! again "$1" && { (($1 == 0)) || [[ $(state) == "$2" ]]; }
}

# show_watch READY GONE: prints each command of a watch once.
show_watch() {
  state
  echo "# if it is $2"
  delete
  create
  echo "# when it is $1; from the top on exit code 75 or above 128"
  setup
  run
}
