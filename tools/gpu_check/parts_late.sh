# The last parts of gpu_check.sh: other implementations beside this one, and compute-sanitizer. Sourced, never run.

# peer_check NAME IMPLEMENTATION [VARIABLE=VALUE]
peer_check() {
  local log=$work/peers.log json=$work/peers.jsonl status=0 options=() reason
  wanted "$1" || return
  rm -f "$json"
  if [[ $sizes == tiny ]]; then
    options=(--tiny --steps 2 --warm-up 1)
  else
    options=(--micro-batch 8 --steps 8 --warm-up 4)
  fi
  run 400 "$log" env ${3:+"$3"} python3 "$share/bench_peers.py" --device "$device" --impl "$2" --label "$1" \
    --variant additive,cumulative --json "$json" --ours "$work/ours.jsonl" "${options[@]}" || status=$?
  measured peers "$json"
  tail -n +2 "$log" | cut -c 1-150 | sed 's/^/    /'
  reason=$(sed -n 's/.*"not_installed": *"\([^"]*\)".*/\1/p' "$json" 2>/dev/null | head -n 1)
  if [[ $status -eq 0 && -n $reason ]]; then
    finish skipped "" "" "not installed: $reason"
  elif [[ $status -eq 0 ]] && grep -q '"error"' "$json"; then
    finish failed "" "" "$(sed -n 's/.*"error": *"\(.*\)".*/\1/p' "$json" | head -n 1 | cut -c 1-160)" "$log"
  else
    finish_run $status "$(grep -o '"ratio": [0-9.]*' "$json" 2>/dev/null | tr '\n' ' ' | tr -d '"')" "$log"
  fi
}

part_peers() {
  local i
  if ! command -v python3 >/dev/null || ! timeout 100 python3 -c 'import torch' 2>/dev/null; then
    wanted "PyTorch" && finish skipped "" "" "not installed: python3 with torch"
    return
  fi
  # Our own steps, for the ratios.
  for i in "${!measured_line[@]}"; do [[ ${measured_section[$i]} == steps ]] && say "${measured_line[$i]}"; done >"$work/ours.jsonl"
  peer_check "PyTorch eager" eager
  peer_check "PyTorch compiled" compile
  peer_check "flash-linear-attention, Triton" compile+fla FLA_ATTNRES_GLUON=0
  peer_check "flash-linear-attention, Gluon" compile+fla FLA_ATTNRES_GLUON=1
  peer_check "Liger" compile+liger
  peer_check "fast-attnres" compile+fast
}

sanitize() { # TOOL SUITE
  local status=0 log=$work/sanitizer.log
  wanted "$1 $2" || return
  run 600 "$log" "$sanitizer" --tool "$1" --error-exitcode 99 "$bin/test_ops" --gtest_brief=1 "--gtest_filter=$(suite_filter "$2")" || status=$?
  if [[ $status -eq 0 ]]; then finish passed 0 0 ""; else finish failed "" 0 "$(describe_status $status)" "$log"; fi
}
part_sanitizers() {
  local suite
  sanitizer=$(command -v compute-sanitizer || ls -d "${CUDA_HOME:-/usr/local/cuda}"/bin/compute-sanitizer 2>/dev/null)
  if [[ $device != cuda || -z $sanitizer ]]; then
    wanted "compute-sanitizer" && finish skipped "" "" "not installed, or there is no GPU"
    return
  fi
  op_suites
  for suite in "${suites[@]}"; do sanitize memcheck "$suite"; done
  for suite in "${suites[@]}"; do [[ $suite != Routing* ]] || sanitize racecheck "$suite"; done
}
