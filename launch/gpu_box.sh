#!/usr/bin/env bash
# One machine with GPUs: launch/gpu_box.sh --config=... --workdir=...
#
# Trains on all its GPUs. A run that was preempted or killed is restarted after
# --interval seconds; the pause doubles each time, up to ten minutes. SIGTERM
# and Ctrl-C save and stop. What follows -- goes to flowdistill.main.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/command.sh

# shellcheck disable=SC2034 # command.sh reads it
declare -A OPTIONS=(
  [config]=configs/quickstart.py [workdir]=runs/quickstart
  [interval]=10 [restarts]=10 [dry_run]=''
)

# Runs the command; forwards a signal to it, and records it in `stopped`.
attempt() {
  local child='' code=0
  trap 'stopped=yes; trap "" TERM INT; [[ -z $child ]] || kill -TERM "$child"' \
    TERM INT
  "$@" &
  child=$!
  [[ -z $stopped ]] || kill -TERM "$child"
  wait "$child" || code=$?
  if [[ -n $stopped ]]; then # the signal ended the wait, not the command
    code=0
    wait "$child" || code=$?
  fi
  return "$code"
}

read_options "$@"
need_numbers interval=10 restarts=10
read_training python
if [[ -n ${given[dry_run]-} ]]; then
  quoted "${training[@]}"
  exit
fi

stopped='' pause=${given[interval]} left=${given[restarts]}
while true; do
  code=0
  attempt "${training[@]}" || code=$?
  again "$code" && [[ -z $stopped ]] || exit "$code"
  if ((left-- == 0)); then
    echo "error: gave up; --restarts=N allows more" >&2
    exit "$code"
  fi
  echo "exit code $code: restarting in $pause s" >&2
  attempt sleep "$pause" || exit "$code"
  pause=$((pause * 2 < 600 ? pause * 2 : 600))
done
