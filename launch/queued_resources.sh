#!/usr/bin/env bash
# A TPU VM under a queued resource of the same name, which waits for capacity:
# launch/queued_resources.sh create|status|setup|run|watch|delete --name=...
#
# create  queues the request         status  shows its state
# setup   installs this working tree, once the resource is ACTIVE
# run     trains on all its workers  delete  deletes the request and the VM
# watch   does all of this until the training has ended, through preemptions
#
# Every action takes the same options; what follows -- goes to flowdistill.main.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/command.sh
source launch/watch.sh
source launch/tpu.sh

main() {
  read_tpu 'create status setup run watch delete' "$@"
  case $action in
    status) state ;;
    watch) watch ACTIVE 'SUSPENDED|FAILED' ;;
    *) "$action" ;;
  esac
}

state() {
  execute gcloud compute tpus queued-resources describe "${given[name]}" \
    "${where[@]}" '--format=value(state.state)'
}

create() {
  execute gcloud compute tpus queued-resources create "${given[name]}" \
    "--node-id=${given[name]}" "${where[@]}" \
    "--accelerator-type=${given[type]}" \
    "--runtime-version=${given[version]}" ${given[spot]:+--spot}
}

delete() {
  execute gcloud compute tpus queued-resources delete "${given[name]}" \
    "${where[@]}" --force --quiet
}

main "$@"
