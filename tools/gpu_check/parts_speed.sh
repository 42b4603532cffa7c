# Parts of gpu_check.sh that measure speed. Sourced, never run.

# The GEMM rate of `describe`, in TFLOP/s, or nothing; an emulated device could not measure it at full size.
measured_peak() {
  local i digits
  for i in "${!measured_line[@]}"; do
    [[ ${measured_section[$i]} == machine_speed && ${measured_line[$i]} =~ \"GFLOP/s\":([0-9.]+) ]] || continue
    printf -v digits '%04d' "${BASH_REMATCH[1]%%.*}"
    say "${digits:0:${#digits}-3}.${digits: -3}"
    return
  done
  [[ $sizes == full ]] || say 0.001
}
# What programs say about the plans and algorithms they chose, once each.
keep_choices() { # LOG or file of choices
  local line json
  while IFS= read -r line; do
    json_string "$line"
    add_measured choices "$part|$check" "{\"text\": $json}"
  done < <(grep -i -E '^choice: |(gemm|cublaslt|cudnn|attention|product).*(chose|choice|algorithm|plan|engine|faster|candidate)|"algorithm"|kernels, which' \
    "$1" 2>/dev/null | grep -v '^\$ ' | cut -c 1-400 | sort -u | head -n 60)
}

# step_check MICRO_BATCH ARGUMENTS...: `additive` and `cumulative` take turns; what a cut-off run had measured counts.
step_check() {
  local micro_batch=$1 log=$work/steps.log json=$work/steps.jsonl status=0 line name peak lines=0
  shift
  wanted "$micro_batch sequences" || return
  rm -f "$json"
  peak=$(measured_peak)
  run 600 "$log" "$bin/depthroute-bench-step" --device "$device" --variant additive,cumulative --micro-batch "$micro_batch" \
    --json "$json" ${peak:+--peak-tflops "$peak"} "$@" || status=$?
  # The last line of each variant is from all its rounds.
  for name in additive cumulative; do
    line=$(grep -F "\"name\":\"$name\"" "$json" 2>/dev/null | tail -n 1)
    [[ -z $line ]] || { add_measured steps "$part|$check" "$line"; lines=$((lines + 1)); }
  done
  keep_choices "$log"
  grep -E '^(additive|cumulative) ' "$log" | sed 's/^/    /'
  if $cut && [[ $lines -eq 2 ]]; then
    finish passed "" "" "cut off by the time, after at least one round of both"
  else
    finish_run $status "$(overhead_of "$json")" "$log"
  fi
}
overhead_of() { grep -o '"overhead":[-0-9.e]*' "$1" 2>/dev/null | tail -n 1 | tr -d '"'; }

part_bench_step() {
  if [[ $sizes == tiny ]]; then
    step_check 2 --config "$tiny_config" --seq-len 16 --steps 2 --rounds 2
  elif [[ $device == cpu ]]; then
    step_check 8 --config "$share/configs/demo.yaml" --seq-len 256 --steps 3 --rounds 2
    step_check 16 --config "$share/configs/demo.yaml" --seq-len 256 --steps 3 --rounds 2
  else # several micro-batches a step, as in training: the update is once a step
    step_check 16 --model 0.6b --seq-len 2048 --micro-batches-per-step 4 --steps 3 --rounds 3
    step_check 8 --model 0.6b --seq-len 2048 --micro-batches-per-step 4 --steps 3 --rounds 3
  fi
}

ops_check() { # NAME LIMIT FILTER
  local log=$work/ops.log json=$work/ops.jsonl status=0 tiny=()
  wanted "$1" || return
  rm -f "$json"
  [[ $sizes == full ]] || tiny=(--tiny)
  run "$2" "$log" "$bin/depthroute-bench-ops" --device "$device" "${tiny[@]}" --json "$json" "--benchmark_filter=$3" || status=$?
  grep -v '^{"name":"machine"' "$json" 2>/dev/null >"$json.ops"
  measured ops "$json.ops"
  keep_choices "$log"
  grep -E '^[a-z_/]+.* ms ' "$log" | cut -c 1-150 | sed 's/^/    /'
  finish_run $status "$(grep -c . "$json.ops") operations" "$log"
}

# The share of the DRAM's bandwidth that the routing kernels reach, as the counters of the GPU have it.
dram_check() {
  local log=$work/ncu.log status=0 ncu line kernel share_of json lines=0
  wanted "routing, share of DRAM" || return
  ncu=$(command -v ncu || ls -d "${CUDA_HOME:-/usr/local/cuda}"/bin/ncu 2>/dev/null)
  if [[ $device != cuda || -z $ncu ]]; then
    finish skipped "" "" "ncu is not installed, or there is no GPU"
    return
  fi
  run 200 "$log" "$ncu" --csv --metrics dram__throughput.avg.pct_of_peak_sustained_elapsed --kernel-name regex:routing \
    --launch-count 60 "$bin/depthroute-bench-ops" --device "$device" "--benchmark_filter=routing.*/n:(2|5|9)" || status=$?
  # CSV: "ID",...,"Kernel Name",...,"Metric Name","Metric Unit","Metric Value"
  while IFS= read -r line; do
    share_of=${line##*,\"} share_of=${share_of%\"}
    [[ $line =~ \"([^\"]*routing[^\"]*)\" && $share_of =~ ^[0-9.]+$ ]] || continue
    kernel=${BASH_REMATCH[1]}
    json_string "${kernel:0:120}"
    add_measured dram "$part|$check" "{\"kernel\": $json, \"percent_of_peak\": $share_of}"
    lines=$((lines + 1))
  done < <(grep 'dram__throughput' "$log")
  if [[ $lines -eq 0 && $status -ne 0 ]] && grep -q ERR_NVGPUCTRPERM "$log"; then
    finish skipped "" "" "the driver does not let this user read the counters"
  else
    finish_run $status "$lines launches" "$log"
  fi
}

part_bench_ops() {
  ops_check "routing" 300 '^routing'
  ops_check "products" 200 '^gemm/'
  ops_check "attention and loss" 200 '^(attention|cross_entropy)'
  ops_check "the rest" 200 '-^(routing|gemm|attention|cross_entropy)'
  dram_check
}
