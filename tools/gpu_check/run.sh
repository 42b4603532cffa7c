# Starts programs for gpu_check.sh within the time that is left, and reports checks. Sourced, never run.

# Seconds that this part still has.
time_left() {
  local end=$((part_deadline < deadline ? part_deadline : deadline))
  say $((end - SECONDS))
}

# stop SIGNAL: ends the running program with its process group. The script then runs through: every further check is `not_run`.
# Leaves the record alone, because the signal may have come while it is being written.
stop() {
  stopped_by=$1
  [[ -z $child ]] || end_group TERM
}
end_group() { kill "-$1" -- "-$child" 2>/dev/null || kill "-$1" "$child" 2>/dev/null; }

# run LIMIT LOG COMMAND...: returns the command's status; 124 or 137 if it exceeded LIMIT or what the part has left. `cut` is then
# true where it was not the command's own limit. `timeout` leads a process group of its own and ends all of it.
run() {
  local limit=$1 log=$2 left status=0
  shift 2
  left=$(time_left) cut=false
  [[ -z $stopped_by && $left -ge 1 ]] || { cut=true; return 124; }
  printf '$ %s\n' "$*" >"$log"
  timeout --kill-after=3 $((limit < left ? limit : left)) "$@" >>"$log" 2>&1 &
  child=$!
  [[ -z $stopped_by ]] || end_group TERM
  while wait "$child"; status=$?; kill -0 "$child" 2>/dev/null; do :; done
  child=""
  if [[ -n $stopped_by || ($left -lt $limit && ($status -eq 124 || $status -eq 137)) ]]; then cut=true; fi
  return $status
}

describe_status() {
  case $1 in
    124 | 137) say "exceeded its time limit" ;;
    126 | 127) say "could not be started" ;;
    *) say "exit status $1" ;;
  esac
}

# One line of the table: wanted NAME || ...; ...; finish passed|failed|skipped FIGURE BOUND NOTE [LOG]
# `wanted` is false where the record has the check already, and where no time is left, which is then recorded.
wanted() {
  check=$1 check_began=$SECONDS cut=false
  case ${check_result[$part|$check]:-} in passed | failed | skipped) return 1 ;; esac
  drop_measured "$part|$check"
  if [[ -n $unusable ]]; then
    not_run "the device cannot be used"
  elif [[ -n $stopped_by ]]; then
    not_run "stopped by $stopped_by"
  elif [[ $(time_left) -lt 1 ]]; then
    not_run "no time left"
  else
    return 0
  fi
  return 1
}
not_run() { # WHY
  add_check "$part" "$check" not_run "" "" "$1" $((SECONDS - check_began))
  [[ -n $stopped_by ]] || report_line not_run "" "" "$1"
}
report_line() { printf '%-42s %-8s %12s %10s  %s\n' "$check" "$1" "${2:--}" "${3:--}" "$4"; }
finish() {
  local result=$1 log=${5:-} line
  if [[ $result == failed ]] && $cut; then
    not_run "cut off after $((SECONDS - check_began)) s: ${stopped_by:-no time left}"
    write_record
    return
  fi
  add_check "$part" "$check" "$result" "$2" "$3" "$4" $((SECONDS - check_began))
  [[ $result == failed ]] && result=FAILED
  report_line "$result" "$2" "$3" "$4"
  if [[ $result == FAILED && -n $log && -r $log ]]; then
    tail -n 12 "$log" | cut -c 1-200 | while IFS= read -r line; do printf '    | %s\n' "$line"; done
  fi
  write_record
}
# finish_run STATUS NOTE LOG: passed if the program ended well.
finish_run() {
  if [[ $1 -eq 0 ]]; then finish passed "" "" "$2"; else finish failed "" "" "$(describe_status "$1")" "$3"; fi
}
measured() { add_measured_file "$1" "$part|$check" "$2"; } # SECTION FILE

# Words in a gtest log: "[  PASSED  ] 12 tests." or " 12 FAILED TESTS" -> 12; 0 if there is no such line.
gtest_count() {
  local line count=0
  while IFS= read -r line; do
    [[ $line =~ ^\[\ +$1\ +\]\ ([0-9]+)\ test || $line =~ ^\ *([0-9]+)\ $1\ TEST ]] && count=${BASH_REMATCH[1]}
  done <"$2"
  say "$count"
}

# gtest_check NAME LIMIT PROGRAM FILTER: the figure is the number of failed tests.
gtest_check() {
  local log=$work/gtest.log status=0 good bad ignored note
  wanted "$1" || return
  run "$2" "$log" "$bin/$3" --gtest_brief=1 "--gtest_filter=$4" || status=$?
  $cut && { finish failed; return; }
  good=$(gtest_count PASSED "$log") bad=$(gtest_count FAILED "$log") ignored=$(gtest_count SKIPPED "$log")
  note="$good tests"
  [[ $ignored -gt 0 ]] && note+=", $ignored skipped"
  if [[ $status -ne 0 ]]; then
    finish failed "$bad" 0 "$note; $(describe_status $status)" "$log"
  elif [[ $good -eq 0 && $ignored -eq 0 ]]; then
    finish failed "" 0 "no test matches $4" "$log"
  elif [[ $good -eq 0 ]]; then
    finish skipped "" 0 "every one of $ignored tests was skipped"
  else
    finish passed 0 0 "$note"
  fi
}

# compare_check NAME ARGUMENTS...: compares two runs with depthroute-compare-runs.
compare_check() {
  local output figure bound where status=0 log=$work/compare.log
  wanted "$1" || return
  shift
  run 60 "$log" "$bin/depthroute-compare-runs" "$@" || status=$?
  if [[ $status -gt 1 ]]; then
    finish failed "" "" "$(describe_status $status)" "$log"
    return
  fi
  output=$(tail -n 1 "$log")
  IFS=$'\t' read -r figure bound where <<<"$output"
  if [[ $status -eq 0 ]]; then finish passed "$figure" "$bound" "$where"; else finish failed "$figure" "$bound" "$where"; fi
}

# same_bits NAME FOLDER_A FOLDER_B NOTE: compares weights and moments of two checkpoints; the figure is the number of files that differ.
same_bits() {
  local a=$2 b=$3 differing=0 file sum_a sum_b
  wanted "$1" || return
  for file in model/model.safetensors optimizer.safetensors; do
    if [[ ! -r $a/$file || ! -r $b/$file ]]; then
      finish failed "" 0 "$file is missing: a run did not finish"
      return
    fi
    read -r sum_a _ <<<"$(sha256sum "$a/$file")"
    read -r sum_b _ <<<"$(sha256sum "$b/$file")"
    [[ $sum_a == "$sum_b" ]] || differing=$((differing + 1))
  done
  if [[ $differing -eq 0 ]]; then finish passed 0 0 "$4"; else finish failed "$differing" 0 "$4"; fi
}
