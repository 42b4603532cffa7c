#!/usr/bin/env bash
# Trains on PROCESSES processes without a scheduler, through Open MPI's mpirun:
#   train-mpirun.sh [--restart] PROCESSES CONFIG [options of depthroute-train]
# SIGTERM, SIGUSR1, SIGHUP or Ctrl-C to this script: the run writes a checkpoint and the script exits with 3; the same command goes
# on. With --restart it goes on by itself when a process of the run was signalled instead (a preempted node of another scheduler),
# but not for ever without progress (may_restart in common.sh).
#   DEPTHROUTE_BIN               folder of the programs, if not where they were built or installed
#   DEPTHROUTE_MPIRUN_OPTIONS    words for mpirun, e.g. "--hostfile hosts --map-by ppr:8:node"
set -euo pipefail
here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$here/common.sh"
program="train-mpirun.sh"
restart=false
if [[ ${1:-} == --restart ]]; then
  restart=true
  shift
fi
[[ $# -ge 2 && $2 != -* ]] || die "usage: train-mpirun.sh [--restart] PROCESSES CONFIG [OPTIONS OF depthroute-train]"
processes=$1
shift
is_count "$processes" || die "'$processes' is not a number of processes"
command -v mpirun >/dev/null || die "mpirun is not here: install Open MPI"
find_bin depthroute-train
read_configuration "$@"
forget_stalls "$output"
read -r -d "" -a options <<<"${DEPTHROUTE_MPIRUN_OPTIONS:-}" || true # to the end, not of the line

stopped=false job=""
# mpirun hands SIGUSR1 on to all processes; SIGTERM and SIGINT it would answer by killing them, and SIGHUP does not reach it.
stop() {
  stopped=true
  [[ -z $job ]] || kill -USR1 "$job" 2>/dev/null || true
}
trap stop TERM USR1 INT HUP
while ! $stopped; do
  before=$(checkpoint_steps "$output")
  # Its own session, so that the terminal's Ctrl-C goes to this script alone.
  run_program setsid mpirun -n "$processes" "${options[@]}" "$bin/depthroute-train" "$@"
  was_interrupted "$status" || exit "$status"
  if ! $restart || $stopped; then break; fi
  may_restart "$output" "$before" || exit 1
  $stopped || say "interrupted at step $reached, starting again"
done
exit 3
