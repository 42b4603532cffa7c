# shellcheck shell=bash disable=SC2034,SC2154
# What the scripts beside it share; sourced, never run. Sets variables they read, and those that train read theirs: `stopped` says
# whether a signal came, and stop() hands one on to `job`.
program=${0##*/} # sbatch runs a copy of its script under another name
[[ -z ${SLURM_JOB_NAME:-} ]] || program=$SLURM_JOB_NAME

# One line, whatever the names in it hold. A log that is full or closed is no reason to lose the job.
say() {
  local text="$program: $*"
  printf '%s\n' "${text//[[:cntrl:]]/?}" 2>/dev/null || true
}
complain() { say "$@" >&2; }
die() {
  complain "$@"
  exit 2
}

# Sets `bin` to the folder of depthroute's programs: DEPTHROUTE_BIN, or where they lie beside this folder, built or installed.
find_bin() { # PROGRAM
  local here=${BASH_SOURCE[0]%/*} folder folders
  folders=("$here/../../../bin" "$here/../../build/release/bin")
  [[ -z ${DEPTHROUTE_BIN:-} ]] || folders=("$DEPTHROUTE_BIN") # what was asked for, or nothing
  for folder in "${folders[@]}"; do
    [[ $folder == /* ]] || folder=$PWD/$folder # so that cd looks nowhere else
    if [[ -f $folder/$1 && -x $folder/$1 ]]; then
      bin=$(cd "$folder" && pwd)
      return
    fi
  done
  die "no program $1 in ${folders[*]}: build depthroute, or set DEPTHROUTE_BIN to the folder of its programs"
}

# How many tasks srun starts. Slurm says it only where sbatch was told; else it is one for each node.
task_count() { echo "${SLURM_NTASKS:-${SLURM_JOB_NUM_NODES:-1}}"; }

# Sources DEPTHROUTE_SETUP. To be called without arguments, which the file would take for its own. Such files seldom bear `set -u`.
source_setup() {
  local file=${DEPTHROUTE_SETUP:-}
  [[ -n $file ]] || return 0
  [[ -r $file && ! -d $file ]] || die "DEPTHROUTE_SETUP: cannot read '$file'"
  [[ $file == */* ]] || file=./$file # not one of PATH
  set +u
  # shellcheck source=/dev/null
  source "$file"
  set -euo pipefail
}

# Runs a program to its end and sets `status`; meanwhile `job` is its process, and the script's traps run as their signals come.
# bash's `wait` does not do for this: where the program ends while a trap interrupts it, its status is lost. So a subshell waits,
# which no trap interrupts, and tells process and status through a pipe.
run_program() { # PROGRAM ARGUMENTS...
  local answers
  {
    exec {answers}< <(
      trap : TERM USR1 INT HUP # it outlives them; the program does not inherit this
      exec 4>&1 1>&3 3>&- </dev/null
      # shellcheck disable=SC2016
      bash -c 'echo $$ >&4 && exec "$@" 4>&-' - "$@" && echo 0 >&4 || echo $? >&4
    )
  } 3>&1
  read -r -u "$answers" job || job=""
  ! $stopped || stop # the signal came before there was a process to hand it to
  status=""
  until read -r -u "$answers" status; do
    [[ $? -gt 128 ]] || break # else a signal interrupted it
  done
  exec {answers}<&-
  job="" status=${status:-$((128 + $(kill -l KILL)))} # the subshell was killed
}

# Whether the program stopped where it can go on: by itself with 3, or killed by the signal that was to stop it, which came
# before it could listen. Slurm and mpirun send SIGTERM for other reasons too, so that one counts only if this script got it.
was_interrupted() { # STATUS
  [[ $1 -ne 3 ]] || return 0
  [[ $1 -gt 128 ]] || return 1
  case $(kill -l "$1" 2>/dev/null) in
    USR1) return 0 ;;
    TERM) $stopped ;;
    *) return 1 ;;
  esac
}

is_count() { [[ $1 =~ ^[1-9][0-9]{0,5}$ ]]; }

# Sets the variable NAME to the text that TEXT is in YAML as --print-config writes it: plain, or in quotes with \" \\ and \x0a.
# Undoes yaml_text of configs/scalar.cpp.
from_yaml() { # NAME TEXT
  local LC_ALL=C rest=$2 value="" byte
  if [[ $rest == \"*\" ]]; then
    rest=${rest:1:-1}
    while [[ $rest == *\\* ]]; do
      value+=${rest%%\\*} rest=${rest#*\\}
      case $rest in
        x00*) die "$1: holds a NUL character, which no path can" ;;
        x[0-9a-f][0-9a-f]*)
          printf -v byte %b "\\x${rest:1:2}"
          value+=$byte rest=${rest:3}
          ;;
        *) value+=${rest:0:1} rest=${rest:1} ;;
      esac
    done
  fi
  printf -v "$1" %s "$value$rest"
}

# Sets `output` and `steps` to what the configuration and the options after it give, and `stalls_allowed` (may_restart). Status 2,
# with the program's own one line, where they are wrong: before any GPU is asked for anything.
read_configuration() { # CONFIG OPTIONS...
  local text line word section="" train="$bin/depthroute-train"
  stalls_allowed=${DEPTHROUTE_STALLED_RESTARTS:-3}
  [[ $stalls_allowed == 0 ]] || is_count "$stalls_allowed" ||
    die "DEPTHROUTE_STALLED_RESTARTS: '$stalls_allowed' is not a number of restarts"
  for word in "${@:2}"; do
    [[ $word != --dry-run && $word != --print-config ]] || die "$word trains nothing: give it to $train itself"
  done
  text=$("$train" --print-config "$@") || exit $?
  output="" steps=""
  while IFS= read -r line; do
    [[ $line == " "* ]] || section=${line%%:*}
    case $section/$line in
      output/"output: "*) from_yaml output "${line#output: }" ;;
      train/"  steps: "*) steps=${line#*: } ;;
    esac
  done <<<"$text"
  [[ -n $output && $steps =~ ^[1-9][0-9]{0,17}$ ]] || die "$train --print-config does not say output and train.steps with: $*"
}

# The steps of a run's checkpoints, one a line, the newest last: folders that are named like one and have a manifest. The link
# `latest` says less: a run that was killed may have left an older one.
checkpoint_steps() { # OUTPUT
  local path
  for path in "$1"/checkpoints/step_*/manifest.json; do
    if [[ -f $path && $path =~ /step_([0-9]{8,15})/manifest\.json$ ]]; then echo $((10#${BASH_REMATCH[1]})); fi
  done | sort -n
}

# The step of the newest checkpoint of a run, 0 before the first.
latest_step() { # OUTPUT
  local steps
  steps=$(checkpoint_steps "$1")
  echo $((${steps##*$'\n'}))
}

# OUTPUT/stalled_restarts counts for may_restart. It goes when there is progress, and when somebody starts the run anew.
forget_stalls() { rm -f -- "$1/stalled_restarts" "$1/stalled_restarts.tmp" 2>/dev/null || true; }

# To be called when a run was interrupted that had the checkpoints BEFORE (checkpoint_steps) when it started. Sets `reached` to the
# step it goes on from. Status 1, with the reason, where stalls_allowed + 1 starts in a row made no checkpoint that was not there
# before. Another start would do no better: the time limit, or the time between signal and limit, is too short for one step and a
# checkpoint.
may_restart() { # OUTPUT BEFORE
  local file=$1/stalled_restarts stalled=0
  reached=$(checkpoint_steps "$1" | grep -v -x -F -f <(echo "$2") | tail -n 1) || true
  if [[ -n $reached ]]; then
    forget_stalls "$1"
    return 0
  fi
  reached=$(latest_step "$1")
  [[ ! -f $file ]] || read -r -n 8 stalled <"$file" || true
  is_count "$stalled" || stalled=0
  if [[ $stalled -ge $stalls_allowed ]]; then
    forget_stalls "$1"
    complain "$((stalls_allowed + 1)) starts in a row made no checkpoint newer than step $reached of $1: give the job more time" \
      "(--time), or more of it to stop in (--signal)"
    return 1
  fi
  # As a whole or not at all: a count cut short would begin anew.
  if ! { mkdir -p -- "$1" && echo $((stalled + 1)) >"$file.tmp" && mv -f -T -- "$file.tmp" "$file"; } 2>/dev/null; then
    rm -f -- "$file.tmp"
    complain "cannot write $file, which counts starts without a new checkpoint: not started again"
    return 1
  fi
}
