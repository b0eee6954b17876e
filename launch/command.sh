# shellcheck shell=bash disable=SC2034
# Sourced by the scripts beside it: their options, the command of the training,
# and commands that --dry_run prints instead of running.
#
# A script has a table OPTIONS: what a value looks like, empty for a switch.
set -euo pipefail

declare -A given=() # the options of this call
declare -a rest=()  # what follows --: arguments of flowdistill.main
declare -a training=()
action=''

# An error of the command, before anything has run.
fail() {
  echo "error: $*" >&2
  exit 2
}

((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)) ||
  fail "bash $BASH_VERSION is too old; 4.4 is enough"

# read_action 'create run delete' WORD...: sets `action`, and reads the options.
read_action() {
  local actions=$1 script=launch/${0##*/}
  shift
  case ${1-} in
    -h | --help) help ;;
    '') fail "$script needs one of: $actions" ;;
  esac
  [[ " $actions " == *" $1 "* ]] ||
    fail "$script has no '$1'; it is one of: $actions"
  action=$1
  read_options "${@:2}"
}

# read_options WORD...: fills `given`, and `rest` with what follows --.
read_options() {
  local name
  while (($#)); do
    case $1 in
      --) rest=("${@:2}") && return ;;
      -h | --help) help ;;
      --*) ;;
      *) fail "'$1' belongs to no option; what flowdistill.main gets follows --" ;;
    esac
    name=${1#--} name=${name%%=*}
    [[ $name =~ ^[a-z_]+$ && -n ${OPTIONS[$name]+known} ]] ||
      fail "--$name does not exist; there are $(spellings)"
    if [[ -z ${OPTIONS[$name]} ]]; then
      [[ $1 == "--$name" ]] || fail "$1: --$name takes no value"
      given[$name]=yes
    else
      [[ $1 == "--$name="?* ]] ||
        fail "--$name has no value; such as --$name=${OPTIONS[$name]}"
      given[$name]=${1#*=}
    fi
    shift
  done
}

# The comment that a script begins with, and its options.
help() {
  sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
  echo "Options: $(spellings)"
  exit 0
}

spellings() {
  local name
  for name in "${!OPTIONS[@]}"; do
    echo "--$name${OPTIONS[$name]:+=${OPTIONS[$name]}}"
  done | sort | paste -sd' '
}

# need NAME...: options without which nothing can be done.
need() {
  local name
  for name in "$@"; do
    [[ -n ${given[$name]-} ]] ||
      fail "--$name is missing; such as --$name=${OPTIONS[$name]}"
  done
}

# need_numbers NAME=DEFAULT...: options that are whole numbers.
need_numbers() {
  local option name
  for option in "$@"; do
    name=${option%=*}
    : "${given[$name]:=${option#*=}}"
    [[ ${given[$name]} =~ ^(0|[1-9][0-9]*)$ ]] ||
      fail "--$name=${given[$name]} is no whole number"
  done
}

# read_training PYTHON WORD...: the command in `training`; WORDs go to main too.
read_training() {
  need config workdir
  local file=${given[config]%%:*}
  [[ $file == /* || -f $file ]] ||
    fail "--config=${given[config]}: the repository has no file $file"
  [[ ${given[workdir]} != *://* ]] ||
    fail "--workdir=${given[workdir]} is no folder; mount the bucket" \
      '(launch/README.md), and say --workdir=/mnt/BUCKET/...'
  training=("$1" -m flowdistill.main "--config=${given[config]}"
    "--workdir=${given[workdir]}" "${@:2}" "${rest[@]}")
}

# again CODE: whether the same command should run again: it was preempted or
# lost a host (75), or a signal ended it.
again() {
  (($1 == 75 || $1 > 128))
}

# The words, quoted so that a shell reads them back.
quoted() {
  local line
  printf -v line '%q ' "$@"
  echo "${line% }"
}

# execute WORD...: runs the command; in a dry run it prints it.
execute() {
  if [[ -n ${given[dry_run]-} ]]; then
    quoted "$@"
  else
    "$@"
  fi
}
