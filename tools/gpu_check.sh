#!/usr/bin/env bash
# Checks an installed depthroute on a machine with a GPU, measures it, and keeps a record:
#   DIR/share/depthroute/gpu_check.sh --budget SECONDS [--only PART,...] [--out FILE.json] [--device cuda|cpu] [--prefix DIR] [--tiny]
# DIR is what cmake --install or tools/pack_gpu_check.sh made; it can be copied to the machine with the GPU. Needs there bash,
# coreutils, sed, grep, a driver, cuBLASLt and cuDNN; uses python3, PyTorch, mpirun, nvidia-smi, ncu and compute-sanitizer where
# they are. It ends within the budget. The record is whole JSON after every check, whatever ends the script.
# Parts, in this order: describe ops bench-step bench-ops golden production training resume ranks evaluation peers sanitizers.
# With the record of an earlier call as --out, of the same commit, device and sizes, what that call did is kept and the rest is done.
# --only names parts; one that is already complete is done afresh. --tiny and --device cpu are for trying the script.
# Exit status: 0 nothing failed (though the budget may have ended), 1 something failed or a signal stopped it, 2 it was called
# wrongly.
set -o pipefail # not -e: failures are recorded
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for library in record run libraries sampling parts_numbers parts_speed parts_training parts_late; do
  source "$here/gpu_check/$library.sh" || exit 1
done

all_parts=(describe ops bench-step bench-ops golden production training resume ranks evaluation peers sanitizers)
# Shares of what is left when a part begins, among the parts still to come.
declare -A weight=([describe]=10 [ops]=30 [bench-step]=65 [bench-ops]=40 [golden]=15 [production]=30 [training]=30 [resume]=15
  [ranks]=10 [evaluation]=15 [peers]=40 [sanitizers]=40)
# These are done as a whole, because a later check uses what an earlier one left.
declare -A whole=([training]=1 [resume]=1 [ranks]=1 [evaluation]=1)

refuse() {
  printf 'gpu_check.sh: %s\n' "$*" >&2
  exit 2
}
usage() {
  refuse "usage: gpu_check.sh --budget SECONDS [--only PART,...] [--out FILE.json] [--device cuda|cpu] [--prefix DIR] [--tiny]"
}

prefix="" out="" device=cuda budget="" only="" sizes=full
while [[ $# -gt 0 ]]; do
  case $1 in
    --prefix | --out | --device | --budget | --only)
      [[ $# -ge 2 ]] || usage
      declare "${1#--}=$2"
      shift
      ;;
    --tiny) sizes=tiny ;;
    *) usage ;;
  esac
  shift
done
[[ $device == cuda || $device == cpu ]] || usage
[[ $budget =~ ^[1-9][0-9]{0,6}$ ]] || usage
[[ -n $prefix || ! -d $here/../../bin ]] || prefix=$here/../..
if [[ -z $prefix || ! -x $prefix/bin/depthroute-train || ! -r $prefix/share/depthroute/commit ]]; then
  refuse "'${prefix:-.}' is not an installed depthroute: run cmake --install BUILD --prefix DIR, then give --prefix DIR"
fi
IFS=, read -r -a chosen <<<"$only"
for name in "${chosen[@]}"; do
  [[ " ${all_parts[*]} " == *" $name "* ]] || refuse "--only $name: no such part; the parts are ${all_parts[*]}"
done
prefix=$(cd "$prefix" && pwd)
bin=$prefix/bin share=$prefix/share/depthroute
commit=$(<"$share/commit")
date=$(date -u +%Y-%m-%dT%H:%M:%SZ)
out=${out:-gpu_check_${device}_$(date -u +%Y%m%d_%H%M%S).json}

: >"$out.part" 2>/dev/null || refuse "cannot write '$out'"
rm -f "$out.part"
[[ ! -e $out ]] || read_record "$out"
work=$(mktemp -d "${TMPDIR:-/tmp}/gpu_check.XXXXXX") || exit 1
stopped_by="" child="" sampler=""
trap 'stop_sampling; rm -rf "$work"' EXIT
trap 'stop SIGTERM' TERM
trap 'stop SIGINT' INT
trap 'stop SIGHUP' HUP

export DEPTHROUTE_TEST_DEVICE=$device DEPTHROUTE_GOLDEN_DIR=$share/golden DEPTHROUTE_SOURCE_DIR=$share
export DEPTHROUTE_BIN_DIR=$bin TEST_TMPDIR=$work
# Idle threads sleep: the CPU runs may share the machine.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
deadline=$((budget - 2)) # of SECONDS, which counts from the start of this script

# ---- which parts
wanted_parts=()
for name in "${all_parts[@]}"; do
  [[ -z $only || ,$only, == *,$name,* ]] || continue
  if [[ ${part_state[$name]:-} == complete ]]; then
    if [[ -z $only ]]; then
      say "$name: complete in the record, kept"
      continue
    fi
    drop_part "$name" # named by --only: done afresh
  elif [[ -n ${whole[$name]:-} ]]; then
    drop_part "$name"
  fi
  wanted_parts+=("$name")
  part_state[$name]=${part_state[$name]:-not_run}
done
for name in "${all_parts[@]}"; do part_state[$name]=${part_state[$name]:-not_run}; done
choose_sizes
begin_call
unusable=""
section "machine"
describe_machine
start_sampling
write_record

run_part() { # NAME
  local sum=0 later left began=$SECONDS
  part=$1 seen=false
  for later in "${wanted_parts[@]}"; do
    [[ $later == "$part" ]] && seen=true
    $seen && sum=$((sum + weight[$later]))
  done
  left=$((deadline - SECONDS))
  if [[ $left -lt 2 || -n $stopped_by ]]; then
    say "$part: not run: ${stopped_by:-the budget is used up}"
    return
  fi
  part_deadline=$((SECONDS + left * weight[$part] / sum))
  section "$part (at most $((part_deadline - SECONDS)) s)"
  part_state[$part]=interrupted # until it has ended
  begin_samples
  "part_${part//-/_}"
  end_samples
  if part_has_gaps; then part_state[$part]=incomplete; else part_state[$part]=complete; fi
  part_seconds[$part]=$((SECONDS - began))
  write_record
}

section "checks"
printf '%-42s %-8s %12s %10s  %s\n' check result figure bound note
if [[ -n $unusable ]]; then
  report_unusable
else
  for name in "${wanted_parts[@]}"; do run_part "$name"; done
fi

section "summary"
end_call
if ! write_record; then
  printf 'gpu_check.sh: FAILED: the record could not be written to %s\n' "$out" >&2
  exit 1
fi
list_failures
say "record: $out"
say "$(count passed) passed, $(count failed) failed, $(count skipped) skipped, $(count not_run) not run; parts not complete: $(open_parts)"
[[ $(count failed) -eq 0 && -z $unusable && -z $stopped_by ]]
