#!/usr/bin/env bash
# Submits an evaluation as a job array of PARTS tasks, and the job that makes the results file once all have succeeded:
#   submit-eval.sh [--only LIST] CONFIG PARTS [options of sbatch] [-- options of depthroute-eval]
# --only 2,5-7 runs these parts again and merges all parts. The options of sbatch apply to both jobs. Prints the two job ids. If a
# part fails, the merge job is removed; what was measured stays.
set -euo pipefail
here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$here/common.sh"
program="submit-eval.sh"
usage="usage: submit-eval.sh [--only LIST] CONFIG PARTS [OPTIONS OF sbatch] [-- OPTIONS OF depthroute-eval]"
only=""
if [[ ${1:-} == --only ]]; then
  [[ ${2:-} =~ ^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$ ]] || die "--only takes part numbers, as in 2,5-7"
  only=$2
  shift 2
fi
[[ $# -ge 2 && $1 != -* ]] || die "$usage"
config=$1 parts=$2
shift 2
[[ -r $config && -f $config ]] || die "cannot read the configuration '$config'"
is_count "$parts" || die "'$parts' is not a number of parts"
for range in ${only//,/ }; do
  first=${range%-*} last=${range#*-}
  [[ ${#first} -le 9 && ${#last} -le 9 && $((10#$first)) -le $((10#$last)) && $((10#$last)) -lt $parts ]] ||
    die "--only $only: $parts parts are numbered 0 to $((parts - 1)), and a range starts with the lower number"
done
slurm=()
while [[ $# -gt 0 && $1 != -- ]]; do
  slurm+=("$1")
  shift
done
[[ $# -eq 0 ]] || shift
command -v sbatch >/dev/null || die "there is no sbatch: run this on a machine with Slurm"

export DEPTHROUTE_PARTS=$parts
array=$(sbatch --parsable --export=ALL "${slurm[@]}" --array="${only:-0-$((parts - 1))}" "$here/eval-array.sbatch" "$config" "$@")
array=${array%%;*} # strips the cluster's name
echo "parts: $array"
if ! merge=$(sbatch --parsable --export=ALL "${slurm[@]}" --dependency="afterok:$array" --kill-on-invalid-dep=yes \
  "$here/eval-merge.sbatch" "$parts" "$config" "$@"); then
  complain "the parts are submitted, the merge job is not: submit $here/eval-merge.sbatch when job $array is done"
  exit 1
fi
echo "merge: ${merge%%;*}"
