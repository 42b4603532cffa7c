#!/usr/bin/env bash
# Trains with PROCESSES ranks without a scheduler, through Open MPI's mpirun:
#   train-mpirun.sh [--restart] PROCESSES CONFIG [options of depthroute-train]
# On SIGTERM, SIGUSR1, SIGHUP or Ctrl-C to this script the run writes a checkpoint and the script exits with 3; the same command
# resumes. With --restart the script itself resumes if a rank was signalled instead (by another scheduler that preempts a node), but
# gives up without progress (may_restart in common.sh).
#   DEPTHROUTE_BIN               folder of the programs; default where they were built or installed
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
command -v mpirun >/dev/null || die "there is no mpirun: install Open MPI"
find_bin depthroute-train
read_configuration "$@"
forget_stalls "$output"
read -r -d "" -a options <<<"${DEPTHROUTE_MPIRUN_OPTIONS:-}" || true # splits all lines, not the first only

stopped=false job=""
# mpirun forwards SIGUSR1 to all ranks. On SIGTERM and SIGINT it would kill them, and SIGHUP does not reach it.
stop() {
  stopped=true
  [[ -z $job ]] || kill -USR1 "$job" 2>/dev/null || true
}
trap stop TERM USR1 INT HUP
while ! $stopped; do
  before=$(checkpoint_steps "$output")
  # A session of its own: the terminal's Ctrl-C reaches only this script.
  run_program setsid mpirun -n "$processes" "${options[@]}" "$bin/depthroute-train" "$@"
  was_interrupted "$status" || exit "$status"
  if ! $restart || $stopped; then break; fi
  may_restart "$output" "$before" || exit 1
  $stopped || say "interrupted at step $reached, starting again"
done
exit 3
