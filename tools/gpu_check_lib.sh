# Functions of gpu_check.sh: time limits, the table, the record. Sourced, never run. Needs bash, coreutils and grep only.

names=() results=() figures=() bounds=() notes=() durations=()
passed=0 failed=0 skipped=0

say() { printf '%s\n' "$*"; }
section() { printf '\n== %s\n' "$*"; }

# run LIMIT LOG COMMAND...: returns the command's status, or 124 or 137 if it exceeded LIMIT seconds.
run() {
  local limit=$1 log=$2
  shift 2
  printf '$ %s\n' "$*" >"$log"
  timeout --kill-after=10 "$limit" "$@" >>"$log" 2>&1
}

describe_status() {
  case $1 in
    124 | 137) say "exceeded its time limit" ;;
    127) say "could not be started" ;;
    *) say "exit status $1" ;;
  esac
}

# One line of the table: begin NAME; ...; finish passed|FAILED|skipped FIGURE BOUND NOTE [LOG]
begin() { check=$1 check_began=$SECONDS; }
finish() {
  local result=$1 log=${5:-}
  names+=("$check") results+=("$result") figures+=("$2") bounds+=("$3") notes+=("$4")
  durations+=("$((SECONDS - check_began))")
  case $result in
    passed) passed=$((passed + 1)) ;;
    skipped) skipped=$((skipped + 1)) ;;
    *) failed=$((failed + 1)) ;;
  esac
  printf '%-34s %-8s %12s %10s  %s\n' "$check" "$result" "${2:--}" "${3:--}" "$4"
  if [[ $result == FAILED && -n $log && -r $log ]]; then
    tail -n 12 "$log" | cut -c 1-200 | while IFS= read -r line; do printf '    | %s\n' "$line"; done
  fi
}

# Words in a gtest log: "[  PASSED  ] 12 tests." -> 12; 0 if there is no such line.
gtest_count() {
  local line count=0
  while IFS= read -r line; do
    [[ $line =~ ^\[\ +$1\ +\]\ ([0-9]+)\ test ]] && count=${BASH_REMATCH[1]}
  done <"$2"
  say "$count"
}

# gtest_check NAME LIMIT PROGRAM [FILTER]: the figure is the number of failed tests. Prints no line if no test matches the filter.
gtest_check() {
  local name=$1 limit=$2 program=$3 filter=${4:-*} log=$work/${1// /_}.log status=0 good bad ignored note
  begin "$name"
  if run 60 "$log" "$bin/$program" --gtest_list_tests "--gtest_filter=$filter" && ! grep -q '^  ' "$log"; then return; fi
  run "$limit" "$log" "$bin/$program" --gtest_brief=1 "--gtest_filter=$filter" || status=$?
  good=$(gtest_count PASSED "$log") bad=$(gtest_count FAILED "$log") ignored=$(gtest_count SKIPPED "$log")
  note="$good tests"
  [[ $ignored -gt 0 ]] && note+=", $ignored skipped"
  if [[ $status -ne 0 ]]; then
    finish FAILED "$bad" 0 "$note; $(describe_status $status)" "$log"
  elif [[ $good -eq 0 ]]; then
    finish skipped "" 0 "every one of $ignored tests was skipped"
  else
    finish passed 0 0 "$note"
  fi
}

# compare_check NAME ARGUMENTS...: compares two runs with depthroute-compare-runs.
compare_check() {
  local name=$1 output status=0
  shift
  begin "$name"
  output=$("$bin/depthroute-compare-runs" "$@" 2>"$work/compare.log") || status=$?
  if [[ $status -gt 1 ]]; then
    finish FAILED "" "" "$(describe_status $status)" "$work/compare.log"
    return
  fi
  local figure bound where
  IFS=$'\t' read -r figure bound where <<<"$output"
  if [[ $status -eq 0 ]]; then finish passed "$figure" "$bound" "$where"; else finish FAILED "$figure" "$bound" "$where"; fi
}

# same_bits NAME FOLDER_A FOLDER_B NOTE: compares weights and moments of two checkpoints; the figure is the number of files that differ.
same_bits() {
  local name=$1 a=$2 b=$3 note=$4 differing=0 file sum_a sum_b
  begin "$name"
  for file in model/model.safetensors optimizer.safetensors; do
    if [[ ! -r $a/$file || ! -r $b/$file ]]; then
      finish FAILED "" 0 "$file is missing: a run did not finish"
      return
    fi
    read -r sum_a _ <<<"$(sha256sum "$a/$file")"
    read -r sum_b _ <<<"$(sha256sum "$b/$file")"
    [[ $sum_a == "$sum_b" ]] || differing=$((differing + 1))
  done
  if [[ $differing -eq 0 ]]; then finish passed 0 0 "$note"; else finish FAILED "$differing" 0 "$note"; fi
}

json_string() {
  local text=$1
  text=${text//\\/\\\\} text=${text//\"/\\\"} text=${text//$'\t'/ } text=${text//$'\n'/ }
  printf '"%s"' "${text//[[:cntrl:]]/}"
}
# Prints a number as it is, an empty text as null, anything else as a string.
json_value() {
  if [[ -z $1 ]]; then
    printf 'null'
  elif [[ $1 =~ ^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$ ]]; then
    printf '%s' "$1"
  else
    json_string "$1"
  fi
}
# Prints files of JSON objects, one per line, as an array; skips other lines.
json_lines() {
  local file line separator=""
  printf '['
  for file in "$@"; do
    [[ -r $file ]] || continue
    while IFS= read -r line; do
      [[ $line == \{*\} ]] || continue
      printf '%s\n    %s' "$separator" "$line"
      separator=,
    done <"$file"
  done
  printf ']'
}

# write_record FILE: uses the variables of gpu_check.sh.
write_record() {
  local i separator="" key
  {
    printf '{\n  "record": 1,\n  "date": %s,\n  "commit": %s,\n' "$(json_string "$date")" "$(json_string "$commit")"
    printf '  "device": %s,\n  "quick": %s,\n  "machine": {' "$(json_string "$device")" "$quick"
    for key in "${machine_keys[@]}"; do
      printf '%s\n    %s: %s' "$separator" "$(json_string "$key")" "$(json_string "${machine[$key]}")"
      separator=,
    done
    printf '},\n  "passed": %d,\n  "failed": %d,\n  "skipped": %d,\n  "checks": [' "$passed" "$failed" "$skipped"
    separator=""
    for i in "${!names[@]}"; do
      printf '%s\n    {"name": %s, "result": %s, "figure": %s, "bound": %s, "note": %s, "seconds": %d}' "$separator" \
        "$(json_string "${names[$i]}")" "$(json_string "${results[$i],,}")" "$(json_value "${figures[$i]}")" \
        "$(json_value "${bounds[$i]}")" "$(json_string "${notes[$i]}")" "${durations[$i]}"
      separator=,
    done
    printf '],\n  "ops": %s,\n' "$(json_lines "$work/ops.jsonl")"
    printf '  "steps": %s,\n' "$(json_lines "$work/steps.jsonl")"
    printf '  "peers": %s\n}\n' "$(json_lines "$work/peers.jsonl")"
  } >"$1.part" && mv "$1.part" "$1"
}
