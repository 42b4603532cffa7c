#!/usr/bin/env bash
# Checks an installed depthroute on a machine with a GPU, measures it, and writes a record:
#   cmake --install build/release --prefix DIR      where it was built; DIR can then be copied to the machine with the GPU
#   DIR/share/depthroute/gpu_check.sh [--prefix DIR] [--out FILE.json] [--quick] [--device cuda|cpu] [--skip-speed]
# Needs bash, coreutils, sed, grep, cuBLASLt, cuDNN and a driver; measures PyTorch too if installed. Continues after failures and
# ends with "N passed, M failed, K skipped"; exit status 1 if anything failed. --quick takes under three minutes. --device cpu
# compares the CPU with itself, to try the script.
set -o pipefail # not -e: the script must reach its record
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
  say "usage: gpu_check.sh [--prefix DIR] [--out FILE.json] [--quick] [--device cuda|cpu] [--skip-speed]" >&2
  exit 2
}
source "$here/gpu_check_lib.sh" || exit 1

prefix="" out="" quick=false device=cuda speed=true
while [[ $# -gt 0 ]]; do
  case $1 in
    --prefix | --out | --device)
      [[ $# -ge 2 ]] || usage
      declare "${1#--}=$2"
      shift
      ;;
    --quick) quick=true ;;
    --skip-speed) speed=false ;;
    *) usage ;;
  esac
  shift
done
[[ $device == cuda || $device == cpu ]] || usage
[[ -n $prefix || ! -d $here/../../bin ]] || prefix=$here/../..
if [[ -z $prefix || ! -x $prefix/bin/depthroute-train || ! -r $prefix/share/depthroute/op_tests ]]; then
  say "gpu_check.sh: '${prefix:-.}' is not an installed depthroute: run cmake --install BUILD --prefix DIR, then give --prefix DIR" >&2
  exit 2
fi
prefix=$(cd "$prefix" && pwd)
bin=$prefix/bin share=$prefix/share/depthroute
date=$(date -u +%Y-%m-%dT%H:%M:%SZ)
commit=$(<"$share/commit")
out=${out:-gpu_check_${device}_$(date -u +%Y%m%d_%H%M%S).json}
: >"$out.part" || { say "gpu_check.sh: cannot write '$out'" >&2; exit 2; }
work=$(mktemp -d "${TMPDIR:-/tmp}/gpu_check.XXXXXX") || exit 1
trap 'rm -rf "$work" "$out.part"' EXIT

export DEPTHROUTE_TEST_DEVICE=$device DEPTHROUTE_GOLDEN_DIR=$share/golden DEPTHROUTE_SOURCE_DIR=$share
export DEPTHROUTE_BIN_DIR=$bin TEST_TMPDIR=$work
# Idle threads sleep: the CPU runs may share the machine.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}

# ---- sizes
if $quick; then
  steps=24 last_steps=12 batch=4 resume_steps=12 sequences=8 eval_len=64 draws=200
else
  steps=200 last_steps=50 batch=16 resume_steps=40 sequences=64 eval_len=256 draws=10000
fi
# Bounds, in nats unless stated. With the same seed, data and float32, runs differ by rounding alone, which training magnifies.
# Between two of OpenBLAS's kernel sets on one CPU, losses differed by 2e-7 in the first 20 of 200 steps and by 6e-3 over all, the
# mean of the last 50 by 2.4e-4; cells and tokens of an evaluation by 4e-6. bfloat16 has no counterpart on the CPU: its bounds are
# what eight bits lead one to expect.
early=20 early_bound=1e-5 curve_bound=0.03 mean_bound=3e-3 bf16_bound=0.03
eval_bound=1e-4 eval_bf16_bound=0.05 # of max(1, value): effects, KL, mass, mean weights; float32: also the NLL of every token

# ---- machine
section "machine"
declare -A machine
machine_keys=()
note_machine() { machine[$1]=$2 machine_keys+=("$1"); say "$(printf '%-12s' "$1") $2"; }
cuda_folders() {
  local folder
  for folder in "${CUDA_HOME:-/usr/local/cuda}"/lib64 /usr/local/cuda*/lib64 /usr/local/cuda*/targets/*/lib \
    /usr/local/lib/python3*/*-packages/nvidia/*/lib /opt/conda/lib/python3*/site-packages/nvidia/*/lib; do
    [[ -d $folder ]] && printf ':%s' "$folder"
  done
}
describe() { "$bin/depthroute-bench-ops" --describe --device "$device" 2>&1; }
begin "device $device"
if ! description=$(describe) && [[ $description == *"shared libraries"* ]]; then
  LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}$(cuda_folders)
  export LD_LIBRARY_PATH=${LD_LIBRARY_PATH#:}
fi
usable=true
description=$(describe) || usable=false
note_machine program "$("$bin/depthroute-train" --version 2>&1 | head -n 1)"
note_machine device "$description"
if [[ $device == cuda ]] && command -v nvidia-smi >/dev/null; then
  note_machine driver "$(nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,clocks.max.mem,power.limit,ecc.mode.current \
    --format=csv,noheader 2>&1 | head -n 1)"
fi
cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
note_machine cpu "$(nproc) x ${cpu:-$(uname -m)}"
note_machine system "$(uname -sr)"
section "checks"
printf '%-34s %-8s %12s %10s  %s\n' check result figure bound note
if $usable; then finish passed "" "" "${description:0:70}"; else finish FAILED "" "" "$description"; fi

# ---- operations, model, evaluation: the test programs on this device
mapfile -t op_tests <"$share/op_tests"
mapfile -t model_tests <"$share/model_tests"
if $usable; then
  for program in "${op_tests[@]}"; do gtest_check "ops ${program#test_}" 240 "$program"; done
  for program in "${model_tests[@]}"; do
    name=${program#test_}
    gtest_check "$name golden fp32" 300 "$program" '*Golden*-*Bf16*'
    gtest_check "$name golden bf16" 300 "$program" '*Golden*Bf16*:*Bf16*Golden*'
    gtest_check "$name properties" 600 "$program" '*-*Golden*'
  done
fi

# ---- training: the demo's shape on this project's own sources, one token per byte
train_command() { # NAME DEVICE PRECISION OVERRIDE...: into `command`
  local settings=("device=$2" "precision=$3" "output=$work/$1" "data.train=[$work/shards/train.bin]"
    "data.val=[$work/shards/val.bin]" "validate.every=0" "log.every=1" "train.global_batch=$batch" "train.micro_batch=$batch"
    "train.steps=$steps" "optimizer.warmup=$((steps / 6))" "checkpoint.every=0" "${@:4}")
  local setting
  command=("$bin/depthroute-train" "$share/configs/demo.yaml")
  for setting in "${settings[@]}"; do command+=(--set "$setting"); done
}
train() { # NAME DEVICE PRECISION OVERRIDE...
  train_command "$@"
  run 600 "$work/$1.log" "${command[@]}"
}
# train_check NAME RUN DEVICE PRECISION OVERRIDE...: the run itself is one check.
train_check() {
  begin "$1"
  local status=0
  train "${@:2}" || status=$?
  if [[ $status -eq 0 ]]; then
    finish passed "" "" "$steps steps of $batch x 256 tokens"
  else
    finish FAILED "" "" "$(describe_status $status)" "$work/$2.log"
  fi
  return $status
}
begin "tokenise"
if ! $usable; then
  : # nothing to compare with
elif ! run 60 "$work/tokenise.log" "$bin/depthroute-tokenize" "$share/text" --output "$work/shards" --val-fraction 0.08; then
  finish FAILED "" "" "no data to train on" "$work/tokenise.log"
elif train_check "train cpu fp32" cpu cpu fp32; then
  if train_check "train $device fp32" fp32 "$device" fp32; then
    compare_check "loss fp32, first $early steps" losses "$work/fp32/metrics.jsonl" "$work/cpu/metrics.jsonl" \
      --until $early --bound $early_bound
    compare_check "loss fp32, all steps" losses "$work/fp32/metrics.jsonl" "$work/cpu/metrics.jsonl" --bound $curve_bound
    compare_check "mean loss fp32, last $last_steps steps" mean-losses "$work/fp32/metrics.jsonl" "$work/cpu/metrics.jsonl" \
      --last $last_steps --bound $mean_bound
  fi
  if train_check "train $device bf16" bf16 "$device" bf16; then
    compare_check "mean loss bf16, last $last_steps steps" mean-losses "$work/bf16/metrics.jsonl" "$work/cpu/metrics.jsonl" \
      --last $last_steps --bound $bf16_bound
  fi
fi

# ---- same bits: stopped and resumed, repeated, replayed from a graph, recomputed
# Starts a run, stops it by SIGTERM once half of its steps are logged, and resumes it.
stop_and_resume() { # RUN PRECISION
  local metrics=$work/$1/metrics.jsonl lines=() pid status=0 limit=$((SECONDS + 300))
  train_command "$1" "$device" "$2" "${same[@]}"
  timeout --kill-after=10 600 "${command[@]}" >"$work/$1.log" 2>&1 &
  pid=$!
  while kill -0 $pid 2>/dev/null && ((SECONDS < limit)); do
    if [[ -s $metrics ]]; then
      mapfile -t lines <"$metrics"
      if ((${#lines[@]} >= resume_steps / 2)); then break; fi
    fi
    sleep 0.002
  done
  kill -TERM $pid 2>/dev/null # `timeout` passes it on
  wait $pid || status=$?
  [[ -r $metrics ]] && mapfile -t lines <"$metrics"
  stopped_at=${#lines[@]}
  [[ $status -eq 3 ]] || return 1
  train "$1" "$device" "$2" "${same[@]}"
}
last=checkpoints/latest
if $usable && [[ -r $work/shards/train.bin ]]; then
  for precision in fp32 bf16; do
    same=(deterministic=true distributed.shards=1 "train.steps=$resume_steps" "checkpoint.keep=0" "optimizer.warmup=3")
    train "straight_$precision" "$device" $precision "${same[@]}"
    stopped_at=0
    if stop_and_resume "resumed_$precision" $precision; then
      same_bits "resume $precision" "$work/straight_$precision/$last" "$work/resumed_$precision/$last" \
        "stopped at step $stopped_at of $resume_steps"
    else
      begin "resume $precision"
      if [[ $stopped_at -eq $resume_steps ]]; then
        finish skipped "" "" "too fast to be stopped before its last step"
      else
        finish FAILED "" 0 "the run could not be stopped or resumed" "$work/resumed_$precision.log"
      fi
    fi
    train "again_$precision" "$device" $precision "${same[@]}"
    same_bits "same bits twice $precision" "$work/straight_$precision/$last" "$work/again_$precision/$last" "deterministic: true"
    train "graph_$precision" "$device" $precision "${same[@]}" train.cuda_graph=true
    same_bits "same bits by graph $precision" "$work/straight_$precision/$last" "$work/graph_$precision/$last" "cuda_graph: true"
    train "recompute_$precision" "$device" $precision "${same[@]}" train.recompute=layer
    same_bits "same bits recomputed $precision" "$work/straight_$precision/$last" "$work/recompute_$precision/$last" \
      "recompute: layer"
  done
fi

# ---- several ranks: one rank with NCCL's calls, and two that share the device and exchange through the host
if $usable && [[ -r $work/shards/train.bin ]]; then
  # A step is the same tree of two parts in all three runs.
  parts=(deterministic=true distributed.shards=2 "train.micro_batch=$((batch / 2))" "train.steps=$resume_steps" "optimizer.warmup=3")
  begin "nccl, one rank"
  if [[ $device != cuda ]]; then
    finish skipped "" "" "for GPUs only"
  elif ! train alone "$device" bf16 "${parts[@]}"; then
    finish FAILED "" "" "the run without NCCL" "$work/alone.log"
  elif train nccl "$device" bf16 "${parts[@]}" distributed.backend=nccl; then
    finish passed "" "" ""
    compare_check "nccl, one rank: losses" losses "$work/nccl/metrics.jsonl" "$work/alone/metrics.jsonl" --bound 0
  elif grep -q "built without NCCL\|NCCL cannot be loaded" "$work/nccl.log"; then
    finish skipped "" "" "$(tail -n 1 "$work/nccl.log")"
  else
    finish FAILED "" "" "the run with NCCL" "$work/nccl.log"
  fi
  begin "two ranks, one device"
  if ! command -v mpirun >/dev/null; then
    finish skipped "" "" "there is no mpirun"
  elif ! train one "$device" fp32 "${parts[@]}"; then
    finish FAILED "" "" "the run with one rank" "$work/one.log"
  else
    train_command two "$device" fp32 "${parts[@]}" distributed.backend=mpi
    set -a
    source "$here/mpi_one_machine.env"
    set +a
    export HOME=${HOME:-$work} # Open MPI 5 does not start without one
    if run 600 "$work/two.log" mpirun -n 2 "${command[@]}"; then
      finish passed "" "" ""
      compare_check "two ranks: losses" losses "$work/two/metrics.jsonl" "$work/one/metrics.jsonl" --bound 0
    else
      finish FAILED "" "" "the run with two ranks" "$work/two.log"
    fi
  fi
fi

# ---- evaluation: the demo's cells on the model the CPU trained
evaluate() { # NAME DEVICE PRECISION
  run 600 "$work/$1.log" "$bin/depthroute-eval" "$share/configs/eval-demo.yaml" --set "model.from=$work/cpu/$last" \
    --set "data.shards=[$work/shards/val.bin]" --set "data.sequences=$sequences" --set "data.seq_len=$eval_len" \
    --set "data.separator=10" --set "splits.calibration_sequences=$sequences" --set "statistics.bootstrap=$draws" \
    --set "output=$work/$1.h5" --set "device=$2" --set "precision=$3"
}
evaluate_check() { # NAME DEVICE PRECISION
  begin "evaluate $2 $3"
  local status=0
  evaluate "$@" || status=$?
  if [[ $status -eq 0 ]]; then
    finish passed "" "" "cells and known answers, $sequences x $eval_len tokens"
  else
    finish FAILED "" "" "$(describe_status $status)" "$work/$1.log"
  fi
  return $status
}
if $usable && [[ -d $work/cpu/$last ]] && evaluate_check eval_cpu cpu fp32; then
  evaluate_check eval_fp32 "$device" fp32 &&
    compare_check "cells fp32" results "$work/eval_fp32.h5" "$work/eval_cpu.h5" --tokens --bound $eval_bound
  evaluate_check eval_bf16 "$device" bf16 &&
    compare_check "cells bf16" results "$work/eval_bf16.h5" "$work/eval_cpu.h5" --bound $eval_bf16_bound
fi

# ---- compute-sanitizer
sanitizer=$(command -v compute-sanitizer || ls -d "${CUDA_HOME:-/usr/local/cuda}"/bin/compute-sanitizer 2>/dev/null)
sanitize_limit=600
$quick && sanitize_limit=90
sanitize() { # TOOL PROGRAM
  begin "$1 ${2#test_}"
  if [[ $device != cuda ]]; then
    finish skipped "" "" "for GPUs only"
    return
  elif [[ -z $sanitizer ]]; then
    finish skipped "" "" "compute-sanitizer is not installed"
    return
  fi
  local status=0 log=$work/$1_$2.log
  run $sanitize_limit "$log" "$sanitizer" --tool "$1" --error-exitcode 99 "$bin/$2" --gtest_brief=1 || status=$?
  if [[ $status -eq 0 ]]; then finish passed 0 0 ""; else finish FAILED "" 0 "$(describe_status $status)" "$log"; fi
}
if $usable; then
  if $quick; then
    sanitize memcheck test_routing
  else
    for program in "${op_tests[@]}"; do sanitize memcheck "$program"; done
    for program in "${op_tests[@]}"; do [[ $program == test_routing* ]] && sanitize racecheck "$program"; done
  fi
fi

# ---- speed
measure() { # NAME LIMIT COMMAND...: prints the command's output
  begin "$1"
  local status=0 log=$work/speed.log
  run "$2" "$log" "${@:3}" || status=$?
  tail -n +2 "$log"
  if [[ $status -eq 0 ]]; then finish passed "" "" ""; else finish FAILED "" "" "$(describe_status $status)" "$log"; fi
}
if $usable && $speed; then
  section "speed"
  ops=(--device "$device" --json "$work/ops.jsonl")
  step=(--device "$device" --json "$work/steps.jsonl")
  if [[ $device == cpu ]]; then
    ops+=('--benchmark_filter=^(rms_norm_forward|routing_forward/D:512/n:5)/')
    step+=(--config "$share/configs/demo.yaml" --variant "additive,cumulative,kimi" --seq-len 64 --micro-batch 2 --steps 2 --rounds 2)
  elif $quick; then
    ops+=('--benchmark_filter=routing|rms_norm')
    step+=(--model 0.6b --variant "additive,cumulative" --seq-len 2048 --micro-batch 4 --steps 5 --rounds 2)
  else
    step+=(--model 0.6b --variant "additive,cumulative,kimi" --seq-len 2048 --micro-batch "4,8,16" --steps 10 --rounds 3)
  fi
  measure "benchmark ops" 900 "$bin/depthroute-bench-ops" "${ops[@]}"
  measure "benchmark steps" 1500 "$bin/depthroute-bench-step" "${step[@]}"
  python=$(command -v python3)
  if [[ $device == cuda ]] && ! $quick; then
    if [[ -n $python ]] && "$python" -c 'import torch' 2>/dev/null; then
      measure "benchmark PyTorch" 1800 "$python" "$share/bench_peers.py" --json "$work/peers.jsonl"
    else
      begin "benchmark PyTorch"
      finish skipped "" "" "PyTorch is not installed"
    fi
  fi
fi

section "summary"
for i in "${!names[@]}"; do
  if [[ ${results[$i]} == FAILED ]]; then say "FAILED: ${names[$i]} (${figures[$i]:--}, bound ${bounds[$i]:--}) ${notes[$i]}"; fi
done
if write_record "$out"; then
  say "record: $out"
else
  say "gpu_check.sh: the record could not be written to '$out'" >&2
  failed=$((failed + 1))
fi
say "$passed passed, $failed failed, $skipped skipped"
[[ $failed -eq 0 ]]
