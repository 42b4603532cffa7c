#!/usr/bin/env bash
# Measures weak scaling over ranks and the cost of saving while training, on this machine's CPUs, as ratios:
#   scaling.sh [BIN]          BIN: folder of depthroute-bench-job, default build/release/bin
# Jobs of 1, 2 and 4 ranks of one thread take turns, each with the same work per rank. "alone" is two jobs of one rank side by side:
# what two busy cores reach that exchange nothing. Then checkpoints beside training, with a core left idle and with none. Ends within
# four minutes and leaves out what did not fit. Meant for an idle machine.
#   DEPTHROUTE_BENCH_ROUNDS   turns (5)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=${1:-$here/../../build/release/bin}
job=$(realpath "$bin")/depthroute-bench-job
[[ -x $job ]] || { echo "scaling.sh: there is no $job: build it, or name its folder" >&2; exit 2; }
command -v mpirun >/dev/null || { echo "scaling.sh: there is no mpirun: install Open MPI" >&2; exit 2; }
rounds=${DEPTHROUTE_BENCH_ROUNDS:-5}
cores=$(nproc)
folder=$(mktemp -d "${TMPDIR:-/tmp}/depthroute-scaling.XXXXXX")
trap 'rm -rf "$folder"' EXIT

set -a
# shellcheck source=../../tools/mpi_one_machine.env
source "$here/../../tools/mpi_one_machine.env"
set +a

# run NAME SECONDS PROCESSES THREADS [OPTIONS]: appends the job's JSON line to the results, as long as time is left.
run() {
  local name=$1 limit=$2 processes=$3 threads=$4 left=$((235 - SECONDS))
  shift 4
  ((left > limit / 2)) || return 0
  ((limit < left)) || limit=$left
  local line
  if line=$(OMP_NUM_THREADS=$threads timeout "$limit" mpirun -n "$processes" "$job" "$@" 2>"$folder/errors.$name"); then
    printf '{"run": "%s", "result": %s}\n' "$name" "$line" >>"$folder/results"
  else
    echo "scaling.sh: $name did not end well or in time: $(head -n 1 "$folder/errors.$name")" >&2
  fi
}

echo "load before: $(cut -d ' ' -f 1-3 /proc/loadavg), $cores cores"
for ((round = 1; round <= rounds && SECONDS < 110; ++round)); do
  for processes in 1 2 4; do run "$processes" 40 "$processes" 1 --steps 5 --warmup 1; done
  run alone-a 40 1 1 --steps 7 --warmup 1 &
  run alone-b 40 1 1 --steps 7 --warmup 1
  wait
done
save() {
  rm -rf "$folder/save"
  mkdir "$folder/save"
  run "save-$1-$2" 80 "$1" "$2" --save "$folder/save" --rounds 3 --steps 20
}
((cores == 1)) || save 1 $((cores - 1))
save 1 "$cores"
save 2 $((cores > 1 ? cores / 2 : 1))
echo "load after:  $(cut -d ' ' -f 1-3 /proc/loadavg), $SECONDS s"

python3 - "$folder/results" "$cores" <<'END'
import collections, json, statistics, sys
cores = int(sys.argv[2])
runs = collections.defaultdict(list)
for line in open(sys.argv[1]):
    entry = json.loads(line)
    runs[entry["run"]].append(entry["result"])

def median(name, key):
    return statistics.median(r[key] for r in runs[name])

one = [r["tokens_per_s"] for r in runs["1"]]
rounds = min([len(one)] + [len(runs[n]) for n in ("2", "4") if runs[n]])
print(f"\n{rounds} turns, medians; of one process {statistics.median(one):.0f} tokens/s (from {min(one):.0f} to {max(one):.0f})")
print(f"{'processes':<12}{'efficiency':>12}{'of alone':>10}{'in calls':>10}{'exposed':>10}{'hidden':>8}{'MB sent':>9}")

def row(name, speeds, n, last):
    efficiency = statistics.median(s / (min(n, cores) * o) for s, o in zip(speeds, one))
    print(f"{name:<12}{efficiency:>12.3f}{last}")

alone = [a["tokens_per_s"] + b["tokens_per_s"] for a, b in zip(runs["alone-a"], runs["alone-b"])]
for n in (2, 4):
    if not runs[str(n)]:
        continue
    speeds = [r["tokens_per_s"] for r in runs[str(n)]]
    beside = f"{statistics.median(s / a for s, a in zip(speeds, alone)):>10.3f}" if alone and cores == 2 else f"{'-':>10}"
    row(n, speeds, n, beside + f"{median(str(n), 'busy_share'):>10.3f}{median(str(n), 'exposed_share'):>10.3f}"
        f"{median(str(n), 'hidden'):>8.3f}{median(str(n), 'bytes') / 1e6:>9.1f}")
if alone:
    row("2 alone", alone, 2, "")
print("efficiency: tokens/s of n processes / (min(n, cores) * tokens/s of one); in calls, exposed: shares of a step;\n"
      "hidden: share of the time in calls during which the step did not stand still; MB: a process in a step")

print(f"\n{'saving':<22}{'step':>8}{'20 steps':>10}{'noise':>8}{'lost':>8}{'saved in':>10}{'at once':>9}")
for name, results in runs.items():
    if not name.startswith("save-"):
        continue
    r = results[0]
    what = f"{r['processes']} x {r['threads']} thread" + ("s" if r["threads"] > 1 else "")
    print(f"{what:<22}{r['ratio_step']:>8.3f}{r['ratio_stretch']:>10.3f}{r['noise']:>8.3f}{r['lost_steps']:>8.2f}"
          f"{r['steps_saving']:>10.0f}{r['synchronous_steps']:>9.2f}"
          + (f"  ({r['outlasted']} outlasted their steps)" if r["outlasted"] else ""))
print("step: median step while saving / without; 20 steps with a checkpoint / without; noise: how far neighbouring 20 steps\n"
      "without one differ; lost: what a checkpoint cost, saved in, and a checkpoint at once with nothing beside it: in steps")
END
