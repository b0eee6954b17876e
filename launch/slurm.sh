#!/usr/bin/env bash
# GPUs under SLURM, one process per GPU: launch/slurm.sh --nodes=2 --gpus=8 ...
#
# Submits slurm.sbatch, which requeues itself when it is preempted or its time
# limit is reached; SIGTERM comes --grace seconds before the limit. What follows
# -- goes to flowdistill.main; other options of sbatch are given as SBATCH_...
# in the environment.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/command.sh

# shellcheck disable=SC2034 # command.sh reads it
declare -A OPTIONS=(
  [name]=my-run [nodes]=2 [gpus]=8 [time]=24:00:00 [grace]=120
  [partition]=gpu [account]=my-account
  [config]=configs/quickstart.py [workdir]=/shared/run
  [restarts]=100 [dry_run]=''
)

read_options "$@"
need time
need_numbers nodes=1 gpus=1 grace=120 restarts=100
read_training python --distributed
execute sbatch "--job-name=${given[name]:-flowdistill}" \
  "--nodes=${given[nodes]}" "--ntasks-per-node=${given[gpus]}" \
  "--gpus-per-node=${given[gpus]}" "--time=${given[time]}" \
  ${given[partition]:+"--partition=${given[partition]}"} \
  ${given[account]:+"--account=${given[account]}"} \
  --requeue --open-mode=append "--signal=TERM@${given[grace]}" \
  launch/slurm.sbatch "${given[restarts]}" "${training[@]}"
