# shellcheck shell=bash disable=SC2034,SC2154
# Functions that the scripts beside it share; sourced, never run. They set variables the scripts read, and the training functions read
# two of theirs: `stopped` says whether a signal came, and stop() forwards one to `job`.
program=${0##*/} # sbatch runs a copy of its script under another name
[[ -z ${SLURM_JOB_NAME:-} ]] || program=$SLURM_JOB_NAME

# Prints one line, whatever characters its names hold. A full or closed log must not end the job.
say() {
  local text="$program: $*"
  printf '%s\n' "${text//[[:cntrl:]]/?}" 2>/dev/null || true
}
complain() { say "$@" >&2; }
die() {
  complain "$@"
  exit 2
}

# Sets `bin` to the folder of depthroute's programs: DEPTHROUTE_BIN, or where this folder's build or installation has them.
find_bin() { # PROGRAM
  local here=${BASH_SOURCE[0]%/*} folder folders
  folders=("$here/../../../bin" "$here/../../build/release/bin")
  [[ -z ${DEPTHROUTE_BIN:-} ]] || folders=("$DEPTHROUTE_BIN") # nothing else if it is set
  for folder in "${folders[@]}"; do
    [[ $folder == /* ]] || folder=$PWD/$folder # keeps cd from searching CDPATH
    if [[ -f $folder/$1 && -x $folder/$1 ]]; then
      bin=$(cd "$folder" && pwd)
      return
    fi
  done
  die "no program $1 in ${folders[*]}: build depthroute, or set DEPTHROUTE_BIN to its programs' folder"
}

# Prints how many tasks srun starts. Slurm sets the variable only if sbatch was told; the default is one per node.
task_count() { echo "${SLURM_NTASKS:-${SLURM_JOB_NUM_NODES:-1}}"; }

# Sources DEPTHROUTE_SETUP. Call it without arguments: the file would see them as its own. Such files seldom work under `set -u`.
source_setup() {
  local file=${DEPTHROUTE_SETUP:-}
  [[ -n $file ]] || return 0
  [[ -r $file && ! -d $file ]] || die "DEPTHROUTE_SETUP: cannot read '$file'"
  [[ $file == */* ]] || file=./$file # keeps source from searching PATH
  set +u
  # shellcheck source=/dev/null
  source "$file"
  set -euo pipefail
}

# Runs a program to its end and sets `status`. Meanwhile `job` is its process id, and the script's traps run as signals arrive.
# bash's `wait` cannot do this: if the program ends while a trap interrupts `wait`, its status is lost. So a subshell that no trap
# interrupts waits, and reports process id and status through a pipe.
run_program() { # PROGRAM ARGUMENTS...
  local answers
  {
    exec {answers}< <(
      trap : TERM USR1 INT HUP # the subshell survives these signals; the program does not inherit the trap
      exec 4>&1 1>&3 3>&- </dev/null
      # shellcheck disable=SC2016
      bash -c 'echo $$ >&4 && exec "$@" 4>&-' - "$@" && echo 0 >&4 || echo $? >&4
    )
  } 3>&1
  read -r -u "$answers" job || job=""
  ! $stopped || stop # the signal came before there was a process to forward it to
  status=""
  until read -r -u "$answers" status; do
    [[ $? -gt 128 ]] || break # above 128: a signal interrupted the read
  done
  exec {answers}<&-
  job="" status=${status:-$((128 + $(kill -l KILL)))} # the subshell was killed
}

# Whether the program stopped where it can resume: by itself with 3, or killed by the stop signal because it was not listening yet.
# Slurm and mpirun send SIGTERM for other reasons too, so SIGTERM counts only if this script got it.
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

# Sets the variable NAME to the value of TEXT, YAML as --print-config writes it: plain, or in quotes with \" \\ and \x0a. The inverse
# of yaml_text in configs/scalar.cpp.
from_yaml() { # NAME TEXT
  local LC_ALL=C rest=$2 value="" byte
  if [[ $rest == \"*\" ]]; then
    rest=${rest:1:-1}
    while [[ $rest == *\\* ]]; do
      value+=${rest%%\\*} rest=${rest#*\\}
      case $rest in
        x00*) die "$1: holds a NUL character, which no path may" ;;
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

# Sets `output` and `steps` from the configuration and the options after it, and `stalls_allowed` (may_restart). If they are wrong,
# exits with 2 and the program's own line, before any GPU is used.
read_configuration() { # CONFIG OPTIONS...
  local text line word section="" train="$bin/depthroute-train"
  stalls_allowed=${DEPTHROUTE_STALLED_RESTARTS:-3}
  [[ $stalls_allowed == 0 ]] || is_count "$stalls_allowed" ||
    die "DEPTHROUTE_STALLED_RESTARTS: '$stalls_allowed' is not a number of restarts"
  for word in "${@:2}"; do
    [[ $word != --dry-run && $word != --print-config ]] || die "$word trains nothing: run $train itself with it"
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

# Prints the steps of a run's checkpoints, one per line, the newest last: folders named like one that have a manifest. The link
# `latest` is not enough: a killed run may have left an older one.
checkpoint_steps() { # OUTPUT
  local path
  for path in "$1"/checkpoints/step_*/manifest.json; do
    if [[ -f $path && $path =~ /step_([0-9]{8,15})/manifest\.json$ ]]; then echo $((10#${BASH_REMATCH[1]})); fi
  done | sort -n
}

# Prints the step of a run's newest checkpoint, 0 before the first.
latest_step() { # OUTPUT
  local steps
  steps=$(checkpoint_steps "$1")
  echo $((${steps##*$'\n'}))
}

# OUTPUT/stalled_restarts is may_restart's counter. Progress removes it, and so does a new submission of the run.
forget_stalls() { rm -f -- "$1/stalled_restarts" "$1/stalled_restarts.tmp" 2>/dev/null || true; }

# Call it when a run was interrupted that had the checkpoints BEFORE (checkpoint_steps) at its start. Sets `reached` to the step it
# resumes from. Returns 1, with the reason, if stalls_allowed + 1 starts in a row made no new checkpoint. Another start would do no
# better: the time limit, or the time between signal and limit, is too short for one step and a checkpoint.
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
  # Replaced by a rename: a truncated count would start over.
  if ! { mkdir -p -- "$1" && echo $((stalled + 1)) >"$file.tmp" && mv -f -T -- "$file.tmp" "$file"; } 2>/dev/null; then
    rm -f -- "$file.tmp"
    complain "cannot write $file, which counts starts without a new checkpoint: not started again"
    return 1
  fi
}
