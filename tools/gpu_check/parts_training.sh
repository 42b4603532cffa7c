# Parts of gpu_check.sh that train and evaluate: the demo's shape on this project's own sources, one token per byte. Sourced, never run.

# Bounds, in nats unless stated. With the same seed, data and float32, runs differ by rounding alone, which training magnifies.
# Between two of OpenBLAS's kernel sets on one CPU, losses differed by 2e-7 in the first 20 of 200 steps and by 6e-3 over all, the
# mean of the last 50 by 2.4e-4; cells and tokens of an evaluation by 4e-6. bfloat16 has no counterpart on the CPU: its bounds are
# what eight bits lead one to expect.
early=20 early_bound=1e-5 curve_bound=0.03 mean_bound=3e-3 bf16_bound=0.03
eval_bound=1e-4 eval_bf16_bound=0.05 # of max(1, value): effects, KL, mass, mean weights; float32: also the NLL of every token

last=checkpoints/latest
tiny_model=(model.hidden_size=32 model.num_heads=2 model.num_kv_heads=1 model.head_dim=16 model.intermediate_size=48 data.seq_len=32)
choose_sizes() {
  if [[ $sizes == tiny ]]; then
    steps=8 last_steps=4 batch=2 resume_steps=12 sequences=8 eval_len=32 draws=100 precisions=(bf16) model=("${tiny_model[@]}")
  else
    steps=200 last_steps=50 batch=16 resume_steps=80 sequences=64 eval_len=256 draws=10000 precisions=(fp32 bf16) model=()
  fi
  [[ $device == cuda ]] || precisions=(fp32) # the CPU has no other
  # bench-step takes a file, not settings.
  tiny_config=$work/tiny.yaml
  sed -e 's/hidden_size: 192/hidden_size: 32/' -e 's/num_heads: 6/num_heads: 2/' -e 's/num_kv_heads: 2/num_kv_heads: 1/' \
    -e 's/head_dim: 32/head_dim: 16/' -e 's/intermediate_size: 512/intermediate_size: 48/' "$share/configs/demo.yaml" >"$tiny_config"
}

train_command() { # NAME DEVICE PRECISION OVERRIDE...: into `command`
  local setting settings=("device=$2" "precision=$3" "output=$work/$1" "data.train=[$work/shards/train.bin]"
    "data.val=[$work/shards/val.bin]" "validate.every=0" "log.every=1" "train.global_batch=$batch" "train.micro_batch=$batch"
    "train.steps=$steps" "optimizer.warmup=$((steps / 6))" "checkpoint.every=0" "${model[@]}" "${@:4}")
  command=("$bin/depthroute-train" "$share/configs/demo.yaml")
  for setting in "${settings[@]}"; do command+=(--set "$setting"); done
}
train() { # NAME DEVICE PRECISION OVERRIDE...
  train_command "$@"
  rm -rf "${work:?}/$1"
  run 600 "$work/$1.log" "${command[@]}"
}
# train_check NAME RUN DEVICE PRECISION OVERRIDE...: the run itself is one check.
train_check() {
  local status=0
  wanted "$1" || return 1
  train "${@:2}" || status=$?
  keep_choices "$work/$2.log"
  keep_choices "$work/$2/gemm_choices.json"
  finish_run $status "$steps steps of $batch sequences" "$work/$2.log"
  return $status
}
# Makes the tokens, once.
have_text() {
  [[ ! -r $work/shards/train.bin ]] || return 0
  wanted "text" || return 1
  if run 60 "$work/tokenise.log" "$bin/depthroute-tokenize" "$share/text" --output "$work/shards" --val-fraction 0.08; then
    finish passed "" "" "tokenised"
  else
    finish failed "" "" "no data to train on" "$work/tokenise.log"
    return 1
  fi
}

part_training() {
  local precision
  have_text || return
  train_check "reference, cpu fp32" cpu cpu fp32 || return
  if train_check "$device fp32" fp32 "$device" fp32; then
    compare_check "loss fp32, first $early steps" losses "$work/fp32/metrics.jsonl" "$work/cpu/metrics.jsonl" \
      --until $early --bound $early_bound
    compare_check "loss fp32, all steps" losses "$work/fp32/metrics.jsonl" "$work/cpu/metrics.jsonl" --bound $curve_bound
    compare_check "mean loss fp32, last $last_steps steps" mean-losses "$work/fp32/metrics.jsonl" "$work/cpu/metrics.jsonl" \
      --last $last_steps --bound $mean_bound
  fi
  [[ $device == cuda ]] || return # the CPU computes in fp32 whatever it is told
  if train_check "$device bf16" bf16 "$device" bf16; then
    compare_check "mean loss bf16, last $last_steps steps" mean-losses "$work/bf16/metrics.jsonl" "$work/cpu/metrics.jsonl" \
      --last $last_steps --bound $bf16_bound
  fi
}

# Starts a run, stops it by SIGTERM once a few of its steps are logged, and resumes it. Into `stopped_at`: the step. Returns 2 if it
# had ended by then.
stop_and_resume() { # RUN PRECISION
  local metrics=$work/$1/metrics.jsonl lines=() status=0 limit=$((SECONDS + 120)) left
  left=$(time_left)
  [[ -z $stopped_by && $left -ge 2 ]] || { cut=true; return 1; }
  train_command "$1" "$device" "$2" "${same[@]}"
  rm -rf "${work:?}/$1"
  timeout --kill-after=3 $((left < 300 ? left : 300)) "${command[@]}" >"$work/$1.log" 2>&1 &
  child=$!
  while kill -0 "$child" 2>/dev/null && ((SECONDS < limit)) && [[ -z $stopped_by ]]; do
    lines=()
    [[ ! -r $metrics ]] || mapfile -t lines <"$metrics"
    ((${#lines[@]} < 3)) || break
    sleep 0.002
  done
  kill -TERM "$child" 2>/dev/null # `timeout` passes it on
  while wait "$child"; status=$?; kill -0 "$child" 2>/dev/null; do :; done
  child=""
  if [[ -n $stopped_by || ($left -lt 300 && ($status -eq 124 || $status -eq 137)) ]]; then
    cut=true
    return 1
  fi
  [[ ! -r $metrics ]] || mapfile -t lines <"$metrics"
  stopped_at=${#lines[@]}
  [[ $status -ne 0 || $stopped_at -lt $resume_steps ]] || return 2
  [[ $status -eq 3 ]] || return 1
  train_command "$1" "$device" "$2" "${same[@]}"
  run 600 "$work/$1.log" "${command[@]}"
}

# Same bits: stopped and resumed, repeated, replayed from a graph, recomputed.
part_resume() {
  local precision status stopped_at try kept=$resume_steps
  have_text || return
  for precision in "${precisions[@]}"; do
    resume_steps=$kept
    # A GPU may end its steps before the signal arrives: then the run becomes longer.
    wanted "stop $precision" || continue
    for try in 1 2 3 4; do
      same=(deterministic=true distributed.shards=1 "train.steps=$resume_steps" "checkpoint.keep=0" "optimizer.warmup=3")
      status=0 stopped_at=0
      stop_and_resume "resumed_$precision" $precision || status=$?
      [[ $status -eq 2 ]] || break
      resume_steps=$((resume_steps * 5))
    done
    case $status in
      0) finish passed "" "" "stopped at step $stopped_at of $resume_steps, then resumed" ;;
      2) finish failed "" "" "$resume_steps steps ended before the signal" "$work/resumed_$precision.log" ;;
      *) finish failed "" "" "the run could not be stopped or resumed" "$work/resumed_$precision.log" ;;
    esac
    wanted "undisturbed $precision" || continue
    local straight=0
    train "straight_$precision" "$device" $precision "${same[@]}" || straight=$?
    finish_run $straight "$resume_steps steps" "$work/straight_$precision.log"
    [[ $straight -eq 0 ]] || continue
    [[ $status -ne 0 ]] || same_bits "resume $precision" "$work/straight_$precision/$last" "$work/resumed_$precision/$last" \
      "stopped at step $stopped_at of $resume_steps"
    bits_of "same bits twice $precision" "again_$precision" "deterministic: true"
    bits_of "same bits by graph $precision" "graph_$precision" "cuda_graph: true" train.cuda_graph=true
    bits_of "same bits recomputed $precision" "recompute_$precision" "recompute: layer" train.recompute=layer
  done
  resume_steps=$kept
}
bits_of() { # NAME RUN NOTE OVERRIDE...: against the undisturbed run
  wanted "$1" || return
  train "$2" "$device" $precision "${same[@]}" "${@:4}" || { finish failed "" "" "the run failed" "$work/$2.log"; return; }
  same_bits "$1" "$work/straight_$precision/$last" "$work/$2/$last" "$3"
}

# One rank with NCCL's calls, and two that share the device and exchange through the host.
part_ranks() {
  local parts=(deterministic=true distributed.shards=2 "train.micro_batch=$((batch / 2))" "train.steps=$steps" "optimizer.warmup=3")
  local status=0 file
  have_text || return
  # A step is the same tree of two parts in all runs.
  if [[ $device != cuda ]]; then
    wanted "nccl, one rank" && finish skipped "" "" "for GPUs only"
  elif wanted "nccl, one rank"; then
    if ! train alone "$device" bf16 "${parts[@]}"; then
      finish failed "" "" "the run without NCCL" "$work/alone.log"
    else
      train nccl "$device" bf16 "${parts[@]}" distributed.backend=nccl || status=$?
      if [[ $status -ne 0 ]] && grep -q "NCCL cannot be loaded" "$work/nccl.log"; then
        mapfile -t folders < <(library_folders)
        file=$(find_library 'libnccl.so.2' | head -n 1)
        if [[ -n $file ]]; then
          status=0
          DEPTHROUTE_NCCL_LIBRARY=$file train nccl "$device" bf16 "${parts[@]}" distributed.backend=nccl || status=$?
        fi
      fi
      if [[ $status -eq 0 ]]; then
        finish passed "" "" "${file:-}"
        compare_check "nccl, one rank: losses" losses "$work/nccl/metrics.jsonl" "$work/alone/metrics.jsonl" --bound 0
      elif grep -q "built without NCCL\|NCCL cannot be loaded" "$work/nccl.log"; then
        finish skipped "" "" "$(tail -n 1 "$work/nccl.log")"
      else
        finish failed "" "" "the run with NCCL" "$work/nccl.log"
      fi
    fi
  fi
  wanted "two ranks, one device" || return
  if ! command -v mpirun >/dev/null; then
    finish skipped "" "" "there is no mpirun"
  elif ! train one "$device" fp32 "${parts[@]}"; then
    finish failed "" "" "the run with one rank" "$work/one.log"
  else
    train_command two "$device" fp32 "${parts[@]}" distributed.backend=mpi
    set -a
    source "$here/mpi_one_machine.env"
    set +a
    export HOME=${HOME:-$work} # Open MPI 5 does not start without one
    # An mpirun of another series than the program's may hang.
    if run 120 "$work/two.log" mpirun -n 2 "${command[@]}"; then
      finish passed "" "" ""
      compare_check "two ranks: losses" losses "$work/two/metrics.jsonl" "$work/one/metrics.jsonl" --bound 0
    else
      finish failed "" "" "the run with two ranks" "$work/two.log"
    fi
  fi
}

evaluate_check() { # NAME RUN DEVICE PRECISION
  local status=0
  wanted "$1" || return 1
  run 600 "$work/$2.log" "$bin/depthroute-eval" "$share/configs/eval-demo.yaml" --set "model.from=$work/$trained/$last" \
    --set "data.shards=[$work/shards/val.bin]" --set "data.sequences=$sequences" --set "data.seq_len=$eval_len" \
    --set "data.separator=10" --set "splits.calibration_sequences=$sequences" --set "statistics.bootstrap=$draws" \
    --set "output=$work/$2.h5" --set "device=$3" --set "precision=$4" || status=$?
  finish_run $status "$sequences sequences of $eval_len tokens" "$work/$2.log"
  return $status
}
# The demo's cells on a model of `training` or, in a call without that part, of a short run.
part_evaluation() {
  local trained=cpu kept=$steps
  have_text || return
  if [[ ! -d $work/cpu/$last ]]; then
    trained=short steps=$((steps / 4))
    train_check "model" short "$device" fp32 || { steps=$kept; return; }
    steps=$kept
  fi
  evaluate_check "reference, cpu fp32" eval_cpu cpu fp32 || return
  evaluate_check "$device fp32" eval_fp32 "$device" fp32 &&
    compare_check "cells fp32" results "$work/eval_fp32.h5" "$work/eval_cpu.h5" --tokens --bound $eval_bound
  [[ $device == cuda ]] || return
  evaluate_check "$device bf16" eval_bf16 "$device" bf16 &&
    compare_check "cells bf16" results "$work/eval_bf16.h5" "$work/eval_cpu.h5" --bound $eval_bf16_bound
}
