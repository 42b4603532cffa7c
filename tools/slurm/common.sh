# shellcheck shell=bash disable=SC2034
# What the scripts beside it share; sourced, never run. Sets variables they read.
program=$(basename "$0") # sbatch runs a copy of its script under another name
[[ -z ${SLURM_JOB_NAME:-} ]] || program=$SLURM_JOB_NAME

die() {
  echo "$program: $*" >&2
  exit 2
}
say() { echo "$program: $*"; }

# Prints the folder of depthroute's programs: DEPTHROUTE_BIN, or where they lie beside this folder, built or installed.
find_bin() { # PROGRAM
  local here folder tried=()
  here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
  for folder in ${DEPTHROUTE_BIN:+"$DEPTHROUTE_BIN"} "$here/../../../bin" "$here/../../build/release/bin"; do
    if [[ -x $folder/$1 ]]; then
      (cd "$folder" && pwd)
      return
    fi
    tried+=("$folder")
    [[ -z ${DEPTHROUTE_BIN:-} ]] || break # what was asked for, or nothing
  done
  die "no program $1 in ${tried[*]}: build depthroute, or set DEPTHROUTE_BIN to the folder of its programs"
}

# wait, and not ended by the signals a script traps; their traps are to set signalled=true.
wait_out() { # PROCESS
  local status
  while :; do
    signalled=false
    wait "$1" && status=0 || status=$?
    $signalled || return "$status"
  done
}

is_count() { [[ $1 =~ ^[1-9][0-9]{0,5}$ ]]; }

# Sets `output` and `steps` to what the configuration and the options after it give. Status 2, with the program's own one line,
# where they are wrong: before any GPU is asked for anything.
read_configuration() { # BIN CONFIG OPTIONS...
  local text
  text=$("$1/depthroute-train" "${@:2}" --print-config) || exit $?
  output=$(sed -n 's/^output: //p' <<<"$text")
  if [[ $output == \"*\" ]]; then output=${output:1:-1}; fi
  steps=$(sed -n '/^train:/,/^[^ ]/s/^ *steps: *//p' <<<"$text")
}

# The step of the newest checkpoint of a run, 0 before the first.
latest_step() { # OUTPUT
  local name
  name=$(basename "$(readlink "$1/checkpoints/latest" || echo step_0)")
  echo $((10#${name#step_}))
}

# To be called when a run was interrupted (status 3) that started at step BEFORE: status 1, with the reason, where as many
# starts in a row as DEPTHROUTE_STALLED_RESTARTS + 1 came to no newer checkpoint. Another start would do no better: the time
# limit, or the time between signal and limit, is too short for one step and a checkpoint. OUTPUT/stalled_restarts counts.
may_restart() { # OUTPUT BEFORE
  local after stalled=0 limit=${DEPTHROUTE_STALLED_RESTARTS:-3} file=$1/stalled_restarts
  after=$(latest_step "$1")
  if [[ $after -gt $2 ]]; then
    rm -f "$file"
    return 0
  fi
  [[ ! -r $file ]] || read -r stalled <"$file" || true
  is_count "$stalled" || stalled=0
  if [[ $stalled -ge $limit ]]; then
    rm -f "$file"
    echo "$program: $limit restarts in a row made no checkpoint newer than step $after of $1: give the job more time" \
      "(--time), or more of it to stop in (--signal)" >&2
    return 1
  fi
  mkdir -p "$1"
  echo $((stalled + 1)) >"$file"
}
