#!/usr/bin/env bash
# A JobSet on GKE, on TPUs or GPUs: launch/gke.sh run|status|logs|delete
#
# run     fills in gke/jobset.yaml and applies it; JobSet restarts if preempted
# status  shows its state      logs    follows the output of all hosts
# delete  deletes it; needed before a finished run can be started again
#
# Every action takes the same options; what follows -- goes to flowdistill.main.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/command.sh

# shellcheck disable=SC2034 # command.sh reads it
declare -A OPTIONS=(
  [name]=my-run [namespace]=default [image]=HOST/PROJECT/flowdistill:tpu
  [type]=tpu-v5-lite-podslice [topology]=2x4 [hosts]=1 [chips]=8 [spot]=''
  [bucket]=my-bucket [service_account]=default
  [config]=configs/quickstart.py [workdir]=/mnt/my-bucket/run
  [restarts]=100 [dry_run]=''
)
LABEL=jobset.sigs.k8s.io/jobset-name

main() {
  read_action 'run status logs delete' "$@"
  need name
  [[ ${given[name]} =~ ^[a-z]([-a-z0-9]*[a-z0-9])?$ ]] ||
    fail "--name=${given[name]} must be lower-case letters, digits and inner -"
  kubectl=(kubectl "--namespace=${given[namespace]:-default}")
  case $action in
    run) run ;;
    status) execute "${kubectl[@]}" get jobset "${given[name]}" ;;
    logs)
      need_numbers hosts=1
      execute "${kubectl[@]}" logs --follow --prefix --tail=-1 \
        "--selector=$LABEL=${given[name]}" --container=train \
        "--max-log-requests=${given[hosts]}"
      ;;
    delete) execute "${kubectl[@]}" delete jobset "${given[name]}" ;;
  esac
}

run() {
  local manifest
  need image type bucket chips
  need_numbers hosts=1 chips= restarts=100
  read_accelerator
  read_training python
  # Kubernetes expands $(NAME) in an argument; $$ stands for a dollar.
  training=("${training[@]//\$/\$\$}" "${world[@]}")
  [[ ${given[workdir]} == "/mnt/${given[bucket]}/"* ]] ||
    fail "--workdir=${given[workdir]} must begin with /mnt/${given[bucket]}/;" \
      'elsewhere it would be lost with its pod'
  manifest=$(fill)
  if [[ -n ${given[dry_run]-} ]]; then
    printf '%s\n' "$(quoted "${kubectl[@]}") apply --filename=- <<'EOF'" \
      "$manifest" EOF
  else
    "${kubectl[@]}" apply --filename=- <<<"$manifest"
  fi
}

# --type selects the nodes, and how the hosts find each other.
read_accelerator() {
  local cloud=cloud.google.com
  world=()
  case ${given[type]} in
    tpu*)
      need topology
      resource=google.com/tpu world=(--distributed)
      nodes="{$cloud/gke-tpu-accelerator: $(json "${given[type]}"), \
$cloud/gke-tpu-topology: $(json "${given[topology]}")"
      ;;
    nvidia-*)
      resource=nvidia.com/gpu
      nodes="{$cloud/gke-accelerator: $(json "${given[type]}")"
      ((given[hosts] == 1)) || world=(
        --distributed "--num_processes=${given[hosts]}"
        "--coordinator=${given[name]}-worker-0-0.${given[name]}:8476"
        "--process_id=\$(JOB_COMPLETION_INDEX)" # Kubernetes expands it
      )
      ;;
    *) fail "--type=${given[type]} must be a node label, such as" \
      'tpu-v5-lite-podslice, tpu-v6e-slice or nvidia-h100-80gb' ;;
  esac
  nodes+="${given[spot]:+, $cloud/gke-spot: \"true\"}}"
}

# Prints the manifest: gke/jobset.yaml with its @NAMES@ replaced.
fill() {
  local text word arguments=()
  for word in "${training[@]}"; do
    arguments+=("$(json "$word")")
  done
  text=$(<launch/gke/jobset.yaml)
  text=${text//@NAME@/"${given[name]}"}
  text=${text//@RESTARTS@/"${given[restarts]}"}
  text=${text//@HOSTS@/"${given[hosts]}"}
  text=${text//@NODES@/"$nodes"}
  text=${text//@SERVICE_ACCOUNT@/"$(json "${given[service_account]:-default}")"}
  text=${text//@IMAGE@/"$(json "${given[image]}")"}
  text=${text//@RESOURCE@/"$resource: ${given[chips]}"}
  text=${text//@BUCKET@/"$(json "${given[bucket]}")"}
  text=${text//@MOUNT@/"$(json "/mnt/${given[bucket]}")"}
  text=${text//@COMMAND@/"[$(IFS=, && echo "${arguments[*]}")]"}
  echo "$text"
}

# Prints a text as a JSON string, which is also YAML.
json() {
  local text=${1//\\/\\\\}
  text=${text//\"/\\\"}
  text=${text//$'\n'/\\n}
  echo "\"${text//$'\t'/\\t}\""
}

main "$@"
