# shellcheck shell=bash disable=SC2034,SC2154
# Sourced by tpu_vm.sh and queued_resources.sh, which define the functions
# state, create and delete: what both kinds of TPU VM share.

declare -A OPTIONS=(
  [name]=my-tpu [zone]=us-west4-a [project]=my-project
  [type]=v5litepod-8 [version]=v2-alpha-tpuv5-lite [spot]=''
  [bucket]=my-bucket [config]=configs/quickstart.py [workdir]=/mnt/my-bucket/run
  [interval]=30 [restarts]=100 [dry_run]=''
)
TREE=(setup.py pyproject.toml README.md LICENSE configs flowdistill launch)

# read_tpu ACTIONS WORD...: reads the options, and sets `where` for gcloud.
read_tpu() {
  read_action "$@"
  need name zone
  where=("--zone=${given[zone]}" ${given[project]:+"--project=${given[project]}"})
  case $action in create | watch) read_type ;; esac
  case $action in
    run | watch) read_training ../venv/bin/python --distributed ;;
  esac
  case $action in watch) read_watch ;; esac
}

# The default of --version depends on --type;
# https://cloud.google.com/tpu/docs/runtimes
read_type() {
  need type
  case ${given[type]} in
    v5litepod-*) : "${given[version]:=v2-alpha-tpuv5-lite}" ;;
    v5p-*) : "${given[version]:=v2-alpha-tpuv5}" ;;
    v6e-*) : "${given[version]:=v2-alpha-tpuv6e}" ;;
    v[234]-*) : "${given[version]:=tpu-ubuntu2204-base}" ;;
    *) [[ -n ${given[version]-} ]] ||
      fail "--type=${given[type]} must be like v5litepod-8, v5p-8 or v6e-8;" \
        'other types need --version' ;;
  esac
}

# Copies the working tree to every worker, and installs it there.
setup() {
  local archive=${TMPDIR:-/tmp}/flowdistill-${given[name]}.tar.gz install
  install=$(quoted flowdistill/launch/tpu_host.sh \
    ${given[bucket]:+"${given[bucket]}"})
  execute tar -czf "$archive" --exclude=__pycache__ "${TREE[@]}" &&
    execute gcloud compute tpus tpu-vm scp "$archive" \
      "${given[name]}:flowdistill.tar.gz" "${where[@]}" --worker=all &&
    on_workers "mkdir -p flowdistill && tar -xzf flowdistill.tar.gz \
-C flowdistill && $install"
}

# The lock: when ssh breaks, gcloud runs the command again, and the new run has
# to wait for the training that is still running.
run() {
  on_workers "cd flowdistill && flock .lock $(quoted "${training[@]}")"
}

on_workers() {
  execute gcloud compute tpus tpu-vm ssh "${given[name]}" "${where[@]}" \
    --worker=all "--command=$1"
}
