# shellcheck shell=bash disable=SC2034
# Sourced by the scripts beside it: reads their options, builds the training
# command, and runs commands or, with --dry_run, prints them.
#
# A script has a table OPTIONS: name -> an example value, empty for a switch.
set -euo pipefail

declare -A given=() # the options on the command line
declare -a rest=()  # what follows --: arguments of flowdistill.main
declare -a training=()
action=''

# Reports an error in the command line, before anything has run.
fail() {
  echo "error: $*" >&2
  exit 2
}

((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)) ||
  fail "bash $BASH_VERSION must be at least 4.4"

# read_action 'create run delete' WORD...: sets `action` and reads the options.
read_action() {
  local actions=$1 script=launch/${0##*/}
  shift
  case ${1-} in
    -h | --help) help ;;
    '') fail "$script needs one of: $actions" ;;
  esac
  [[ " $actions " == *" $1 "* ]] ||
    fail "$script: '$1' must be one of: $actions"
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
      *) fail "'$1' is no option; put arguments of flowdistill.main after --" ;;
    esac
    name=${1#--} name=${name%%=*}
    [[ $name =~ ^[a-z_]+$ && -n ${OPTIONS[$name]+known} ]] ||
      fail "--$name is unknown; the options are $(spellings)"
    if [[ -z ${OPTIONS[$name]} ]]; then
      [[ $1 == "--$name" ]] || fail "$1 must be --$name, without a value"
      given[$name]=yes
    else
      [[ $1 == "--$name="?* ]] ||
        fail "--$name must have a value, as in --$name=${OPTIONS[$name]}"
      given[$name]=${1#*=}
    fi
    shift
  done
}

# Prints the comment at the top of the script, and its options.
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

# need NAME...: fails unless these options are given.
need() {
  local name
  for name in "$@"; do
    [[ -n ${given[$name]-} ]] ||
      fail "--$name is missing, as in --$name=${OPTIONS[$name]}"
  done
}

# need_numbers NAME=DEFAULT...: fails unless these are whole numbers.
need_numbers() {
  local option name
  for option in "$@"; do
    name=${option%=*}
    : "${given[$name]:=${option#*=}}"
    [[ ${given[$name]} =~ ^(0|[1-9][0-9]*)$ ]] ||
      fail "--$name=${given[$name]} must be a whole number"
  done
}

# read_training PYTHON WORD...: sets `training` to the command; the WORDs are
# further arguments of flowdistill.main.
read_training() {
  need config workdir
  local file=${given[config]%%:*}
  [[ $file == /* || -f $file ]] ||
    fail "--config=${given[config]} must name a file; there is no $file"
  [[ ${given[workdir]} != *://* ]] ||
    fail "--workdir=${given[workdir]} must be a folder; mount the bucket" \
      '(launch/README.md) and use --workdir=/mnt/BUCKET/...'
  training=("$1" -m flowdistill.main "--config=${given[config]}"
    "--workdir=${given[workdir]}" "${@:2}" "${rest[@]}")
}

# again CODE: whether to run the same command again: it was preempted or lost a
# host (75), or a signal killed it.
again() {
  (($1 == 75 || $1 > 128))
}

# Prints the words, quoted for a shell.
quoted() {
  local line
  printf -v line '%q ' "$@"
  echo "${line% }"
}

# execute WORD...: runs the command; a dry run prints it.
execute() {
  if [[ -n ${given[dry_run]-} ]]; then
    quoted "$@"
  else
    "$@"
  fi
}
