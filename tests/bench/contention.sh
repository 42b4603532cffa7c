#!/usr/bin/env bash
# Measures a training step beside other busy processes, with OpenMP threads that sleep while they wait (the programs' default) and
# with threads that spin (GCC's default):
#   contention.sh [BIN]       BIN: folder of depthroute-bench-job, default build/release/bin
# One thread per core. Both policies beside none, one and two busy processes, in turns; medians. Takes two minutes on an idle
# machine, and prints the load it found. On a busy one spinning threads are so slow that a run is cut off after a minute and left out.
#   DEPTHROUTE_BENCH_ROUNDS   turns (5)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=${1:-$here/../../build/release/bin}
job=$(realpath "$bin")/depthroute-bench-job
[[ -x $job ]] || { echo "contention.sh: there is no $job: build it, or name its folder" >&2; exit 2; }
rounds=${DEPTHROUTE_BENCH_ROUNDS:-5}
results=$(mktemp "${TMPDIR:-/tmp}/depthroute-contention.XXXXXX")
busy=()
stop_busy() {
  ((${#busy[@]} == 0)) || kill "${busy[@]}" 2>/dev/null || true
  wait
  busy=()
}
trap 'stop_busy; rm -f "$results"' EXIT

# Neither run may start itself again with another policy; OpenBLAS chooses as it does in the other.
export DEPTHROUTE_RESTARTED=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)}
unset OMP_WAIT_POLICY GOMP_SPINCOUNT KMP_BLOCKTIME KMP_LIBRARY

# measure POLICY OTHERS: appends "POLICY OTHERS MILLISECONDS".
measure() {
  local policy=$1 others=$2 line
  for ((i = 0; i < others; ++i)); do
    (while :; do :; done) &
    busy+=($!)
  done
  local setting=()
  [[ $policy != passive ]] || setting=(OMP_WAIT_POLICY=passive)
  if line=$(env "${setting[@]}" timeout 60 "$job" --steps 7 --warmup 1); then
    echo "$policy $others $(sed -E 's/.*"step_ms":([0-9.]+).*/\1/' <<<"$line")" >>"$results"
  else
    echo "contention.sh: $policy beside $others: no result within a minute" >&2
  fi
  stop_busy
}

echo "load before: $(cut -d ' ' -f 1-3 /proc/loadavg), $(nproc) cores, $OMP_NUM_THREADS threads"
for ((round = 1; round <= rounds; ++round)); do
  for others in 0 1 2; do
    for policy in passive spinning; do measure "$policy" "$others"; done
  done
done
echo "load after:  $(cut -d ' ' -f 1-3 /proc/loadavg), $SECONDS s"

python3 - "$results" <<'END'
import collections, statistics, sys
times = collections.defaultdict(list)
for line in open(sys.argv[1]):
    policy, others, milliseconds = line.split()
    times[policy, int(others)].append(float(milliseconds))
quiet = statistics.median(times["spinning", 0]) if times["spinning", 0] else 0
titles = {"passive": "threads that sleep (OMP_WAIT_POLICY=passive)", "spinning": "threads that spin (GCC's default)"}
for policy, title in titles.items():
    print(f"\n{title}\n{'beside':<18}{'step, ms':>10}{'from':>8}{'to':>8}{'times as long as the quiet spinning step':>43}")
    for others, name in enumerate(("nothing", "1 busy process", "2 busy processes")):
        values = times[policy, others]
        if not values or not quiet:
            print(f"{name:<18}{'-':>10}")
            continue
        median = statistics.median(values)
        print(f"{name:<18}{median:>10.0f}{min(values):>8.0f}{max(values):>8.0f}{median / quiet:>43.2f}")
END
