# Parts of gpu_check.sh that compare numbers with float64, golden cases and the CPU. Sourced, never run.

# Into `suites`: the groups of the op tests, routing first; test "Shapes/Routing.X/3" belongs to Routing.
op_suites() {
  local line name log=$work/suites.log
  local -A known
  suites=()
  run 60 "$log" "$bin/test_ops" --gtest_list_tests || return
  while IFS= read -r line; do
    [[ $line =~ ^([A-Za-z0-9_]+/)?([A-Za-z0-9_]+)(/[0-9]+)?\.( |$) ]] || continue
    name=${BASH_REMATCH[2]}
    [[ -z ${known[$name]:-} ]] || continue
    known[$name]=1
    if [[ $name == Routing* ]]; then suites=("$name" "${suites[@]}"); else suites+=("$name"); fi
  done <"$log"
}
suite_filter() { say "$1.*:*/$1.*:*/$1/*"; }

part_ops() {
  local suite status=0
  check="list of tests" check_began=$SECONDS
  op_suites || status=$?
  if [[ ${#suites[@]} -eq 0 ]]; then
    finish failed "" "" "test_ops: $(describe_status $status)" "$work/suites.log"
    return
  fi
  for suite in "${suites[@]}"; do gtest_check "$suite" 240 test_ops "$(suite_filter "$suite")"; done
}

part_golden() {
  local program
  for program in test_model test_golden_adamw test_eval; do
    [[ -x $bin/$program ]] || continue
    gtest_check "${program#test_} fp32" 300 $program '*Golden*-*Bf16*'
  done
  gtest_check "model bf16" 300 test_model '*Golden*Bf16*:*Bf16*Golden*'
  for program in test_model test_eval; do gtest_check "${program#test_} properties" 600 $program '*-*Golden*'; done
}

# shape_check NAME LIMIT ARGUMENTS...: NAME is the run itself; each figure it prints is a check of its own.
shape_check() {
  local log=$work/shape.log status=0 name figure bound where note figures=0
  wanted "$1" || return
  run "$2" "$log" "$bin/depthroute-check-shape" "${@:3}" || status=$?
  note=$(sed -n '1{s/.*depthroute-check-shape //;s|/[^ ]*/||g;p}' "$log" | cut -c 1-160)
  while IFS=$'\t' read -r name figure bound where; do
    [[ -n $where ]] || continue
    figures=$((figures + 1))
    add_check "$part" "$1: $name" "$(within "$figure" "$bound")" "$figure" "$bound" "$where" $((SECONDS - check_began))
    printf '%-42s %-8s %12s %10s  %s\n' "$1: $name" "$(within "$figure" "$bound")" "$figure" "$bound" "$where"
  done <"$log"
  # 1: a figure is beyond its bound, and has its own line.
  if [[ $status -eq 1 && $figures -gt 0 ]]; then
    finish failed "" "" "$note: a figure is beyond its bound"
  else
    finish_run $status "$note" "$log"
  fi
}
# within FIGURE BOUND: by printf's own reading of numbers, since bash has no fractions; NaN fails.
within() {
  local figure bound
  printf -v figure '%.12f' "$1" 2>/dev/null && printf -v bound '%.12f' "$2" 2>/dev/null || { say failed; return; }
  [[ $figure =~ ^[0-9]+\.[0-9]+$ ]] || { say failed; return; }
  if [[ $(printf '%s\n%s\n' "$figure" "$bound" | sort -g | head -n 1) == "$figure" ]]; then say passed; else say failed; fi
}

part_production() {
  local settings=() sequences=16 config=$share/configs/qwen3-0.6b-cumulative.yaml setting
  if [[ $sizes == tiny ]]; then
    config=$share/configs/demo.yaml sequences=4
    for setting in "${tiny_model[@]}"; do settings+=(--set "$setting"); done
  fi
  shape_check "against the CPU" 400 cpu "$config" "${settings[@]}" --device "$device"
  shape_check "together or singly" 200 singly "$config" "${settings[@]}" --device "$device" --sequences $sequences
}
