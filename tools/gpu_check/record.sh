# The record of gpu_check.sh: kept in arrays, written after each check, read back by the next call. Sourced, never run. Every
# entry is one line of the file, so that bash can read what it wrote.

check_keys=()                       # "part|name", in order
declare -A check_line check_result  # by key: the entry, and its result
measured_section=() measured_check=() measured_line=() # what programs measured: section, key of the check, entry
declare -A part_state part_seconds  # complete, incomplete, interrupted or not_run; seconds of the last call
call_lines=() sample_lines=() machine_lines=()
sections=(machine_speed ops steps peers dram choices)

say() { printf '%s\n' "$*"; }
section() { printf '\n== %s\n' "$*"; }

json_string() { # TEXT: into `json`
  json=${1//\\/\\\\} json=${json//\"/\\\"} json=${json//$'\t'/ } json=${json//$'\n'/ }
  json="\"${json//[[:cntrl:]]/}\""
}
# A number as it is, an empty text as null, anything else as a string: into `json`.
json_value() {
  if [[ -z $1 ]]; then
    json=null
  elif [[ $1 =~ ^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$ ]]; then
    json=$1
  else
    json_string "$1"
  fi
}

# add_check PART NAME RESULT FIGURE BOUND NOTE SECONDS: replaces an entry of the same name.
add_check() {
  local key="$1|$2" line="{\"part\": \"$1\", \"name\": " json
  json_string "$2" && line+="$json, \"result\": \"$3\", \"figure\": "
  json_value "$4" && line+="$json, \"bound\": "
  json_value "$5" && line+="$json, \"note\": "
  json_string "$6" && line+="$json, \"seconds\": $7}"
  [[ -n ${check_line[$key]:-} ]] || check_keys+=("$key")
  check_line[$key]=$line check_result[$key]=$3
}

# add_measured SECTION KEY LINE: LINE is a JSON object; the check that it belongs to becomes its first member.
add_measured() {
  local json
  json_string "$2"
  measured_section+=("$1") measured_check+=("$2")
  measured_line+=("{\"check\": $json, ${3#\{}")
}
# Takes lines of a file of JSON objects.
add_measured_file() { # SECTION KEY FILE
  local line
  [[ -r $3 ]] || return
  while IFS= read -r line; do
    [[ $line == \{*\} ]] && add_measured "$1" "$2" "$line"
  done <"$3"
}
drop_measured() { # PATTERN of keys
  local i sections_left=() checks_left=() lines_left=()
  for i in "${!measured_check[@]}"; do
    [[ ${measured_check[$i]} == $1 ]] && continue
    sections_left+=("${measured_section[$i]}") checks_left+=("${measured_check[$i]}") lines_left+=("${measured_line[$i]}")
  done
  measured_section=("${sections_left[@]}") measured_check=("${checks_left[@]}") measured_line=("${lines_left[@]}")
}
drop_part() { # NAME: forgets what the record has of it
  local key keys_left=()
  for key in "${check_keys[@]}"; do
    if [[ $key == "$1|"* ]]; then unset "check_line[$key]" "check_result[$key]"; else keys_left+=("$key"); fi
  done
  check_keys=("${keys_left[@]}")
  drop_measured "$1|*"
  part_state[$1]=not_run
  unset "part_seconds[$1]"
}
part_has_gaps() {
  local key
  for key in "${check_keys[@]}"; do [[ $key == "$part|"* && ${check_result[$key]} == not_run ]] && return 0; done
  [[ -n $stopped_by || -n $unusable ]]
}
count() { # RESULT
  local key number=0
  for key in "${check_keys[@]}"; do [[ ${check_result[$key]} == "$1" ]] && number=$((number + 1)); done
  say $number
}
open_parts() {
  local name open=""
  for name in "${all_parts[@]}"; do [[ ${part_state[$name]} == complete ]] || open+=" $name"; done
  say "${open:- none}"
}
list_failures() {
  local key
  for key in "${check_keys[@]}"; do
    [[ ${check_result[$key]} == failed ]] && say "FAILED: ${check_line[$key]}"
  done
}

begin_call() {
  local json
  json_string "$only"
  call_began="{\"date\": \"$date\", \"budget\": $budget, \"only\": $json"
  call_lines+=("$call_began, \"ended\": \"killed, or still running\"}")
}
end_call() {
  local ended=complete
  [[ $SECONDS -lt $deadline ]] || ended="budget used up"
  [[ -z $unusable ]] || ended="device unusable"
  [[ -z $stopped_by ]] || ended=$stopped_by
  call_lines[${#call_lines[@]} - 1]="$call_began, \"seconds\": $SECONDS, \"ended\": \"$ended\"}"
}

array() { # NAME LINE...
  local name=$1 separator="" line
  shift
  printf '  "%s": [' "$name"
  for line in "$@"; do
    printf '%s\n    %s' "$separator" "$line"
    separator=,
  done
  printf '\n  ],\n'
}
# Writes beside the record and renames: at any moment the file is a whole record.
write_record() {
  local i name key lines json failed=0 passed=0 skipped=0
  for key in "${check_keys[@]}"; do
    case ${check_result[$key]} in
      passed) passed=$((passed + 1)) ;;
      failed) failed=$((failed + 1)) ;;
      skipped) skipped=$((skipped + 1)) ;;
    esac
  done
  {
    json_string "$commit"
    printf '{\n  "record": 2,\n  "commit": %s,\n  "device": "%s",\n  "sizes": "%s",\n' "$json" "$device" "$sizes"
    printf '  "passed": %d,\n  "failed": %d,\n  "skipped": %d,\n' $passed $failed $skipped
    array calls "${call_lines[@]}"
    array machine "${machine_lines[@]}"
    lines=()
    for name in "${all_parts[@]}"; do
      lines+=("{\"part\": \"$name\", \"state\": \"${part_state[$name]}\", \"seconds\": ${part_seconds[$name]:-null}}")
    done
    array parts "${lines[@]}"
    lines=()
    for name in "${all_parts[@]}"; do [[ ${part_state[$name]} != not_run ]] || lines+=("\"$name\""); done
    for key in "${check_keys[@]}"; do
      [[ ${check_result[$key]} == not_run ]] || continue
      json_string "${key/|/: }"
      lines+=("$json")
    done
    array not_run "${lines[@]}"
    lines=()
    for key in "${check_keys[@]}"; do lines+=("${check_line[$key]}"); done
    array checks "${lines[@]}"
    array samples "${sample_lines[@]}"
    for name in "${sections[@]}"; do
      lines=()
      for i in "${!measured_line[@]}"; do [[ ${measured_section[$i]} == "$name" ]] && lines+=("${measured_line[$i]}"); done
      array "$name" "${lines[@]}"
    done
    printf '  "written": "%(%Y-%m-%dT%H:%M:%SZ)T"\n}\n' -1
  } >"$out.part" && mv "$out.part" "$out"
}

# read_record FILE: takes over what an earlier call wrote; refuses another commit, device or size.
read_record() {
  local line json now="" last="" of_commit="" of_device="" of_sizes="" version="" entry
  local text='"([^"]*)"'
  while IFS= read -r line || [[ -n $line ]]; do
    last=$line
    if [[ $line =~ ^\ \ \"record\":\ ([0-9]+),$ ]]; then version=${BASH_REMATCH[1]}; fi
    if [[ $line =~ ^\ \ \"(commit|device|sizes)\":\ $text,$ ]]; then
      declare "of_${BASH_REMATCH[1]}=${BASH_REMATCH[2]}"
    elif [[ $line =~ ^\ \ \"([a-z_]+)\":\ \[$ ]]; then
      now=${BASH_REMATCH[1]}
    elif [[ $line == "    {"* ]]; then
      entry=${line#"    "} entry=${entry%,}
      case $now in
        calls) call_lines+=("$entry") ;;
        samples) sample_lines+=("$entry") ;;
        parts)
          [[ $entry =~ ^\{\"part\":\ $text,\ \"state\":\ $text,\ \"seconds\":\ ([0-9]+|null) ]] || continue
          part_state[${BASH_REMATCH[1]}]=${BASH_REMATCH[2]}
          [[ ${BASH_REMATCH[3]} == null ]] || part_seconds[${BASH_REMATCH[1]}]=${BASH_REMATCH[3]}
          ;;
        checks)
          [[ $entry =~ ^\{\"part\":\ $text,\ \"name\":\ $text,\ \"result\":\ $text ]] || continue
          check_keys+=("${BASH_REMATCH[1]}|${BASH_REMATCH[2]}")
          check_line[${BASH_REMATCH[1]}|${BASH_REMATCH[2]}]=$entry
          check_result[${BASH_REMATCH[1]}|${BASH_REMATCH[2]}]=${BASH_REMATCH[3]}
          ;;
        machine) ;; # found out afresh by every call
        *)
          [[ $entry =~ ^\{\"check\":\ $text ]] || continue
          measured_section+=("$now") measured_check+=("${BASH_REMATCH[1]}") measured_line+=("$entry")
          ;;
      esac
    fi
  done <"$1"
  [[ $version == 2 && $last == "}" ]] || refuse "'$1' is no record of this script: give --out another name"
  [[ $of_commit == "$commit" ]] || refuse "'$1' is of commit $of_commit, this is $commit: give --out another name"
  [[ $of_device == "$device" && $of_sizes == "$sizes" ]] ||
    refuse "'$1' is of device $of_device and sizes $of_sizes, not $device and $sizes: give --out another name"
}
