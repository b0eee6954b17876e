#!/usr/bin/env bash
# A TPU VM: launch/tpu_vm.sh create|setup|run|watch|delete --name=... --zone=...
#
# create  creates the VM             setup   installs this working tree on it
# run     trains on all its workers  delete  deletes it
# watch   does all of this until the training has ended, through preemptions
#
# Every action takes the same options; what follows -- goes to flowdistill.main.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/command.sh
source launch/watch.sh
source launch/tpu.sh

main() {
  read_tpu 'create setup run watch delete' "$@"
  case $action in
    watch) watch READY 'PREEMPTED|TERMINATED' ;;
    *) "$action" ;;
  esac
}

state() {
  execute gcloud compute tpus tpu-vm describe "${given[name]}" "${where[@]}" \
    '--format=value(state)'
}

create() {
  execute gcloud compute tpus tpu-vm create "${given[name]}" "${where[@]}" \
    "--accelerator-type=${given[type]}" "--version=${given[version]}" \
    ${given[spot]:+--spot}
}

delete() {
  execute gcloud compute tpus tpu-vm delete "${given[name]}" "${where[@]}" \
    --quiet
}

main "$@"
