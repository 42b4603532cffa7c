# Clocks, power, temperature and throttling while something is measured, from nvidia-smi where there is one. Sourced by
# gpu_check.sh, never run.

sample_file=""
start_sampling() {
  local gpu=${CUDA_VISIBLE_DEVICES:-0} field
  gpu=${gpu%%,*}
  command -v nvidia-smi >/dev/null || return
  # The name that newer drivers have for why clocks are low, then that of older ones.
  for field in clocks_event_reasons.active clocks_throttle_reasons.active; do
    sample_query=clocks.sm,clocks.mem,power.draw,temperature.gpu,utilization.gpu,$field
    timeout 20 nvidia-smi -i "$gpu" --query-gpu=$sample_query --format=csv,noheader,nounits >/dev/null 2>&1 || continue
    sample_file=$work/samples.csv
    : >"$sample_file"
    timeout "$((budget + 5))" nvidia-smi -i "$gpu" --query-gpu=$sample_query --format=csv,noheader,nounits -l 1 >>"$sample_file" 2>/dev/null &
    sampler=$!
    return
  done
  machine_fact samples "nvidia-smi does not answer: no clocks in this record"
}
stop_sampling() {
  [[ -z $sampler ]] || kill "$sampler" 2>/dev/null
  sampler=""
}

begin_samples() {
  samples_before=0
  [[ -z $sample_file ]] || samples_before=$(wc -l <"$sample_file")
}
# median_min_max NUMBER...: "[median, min, max]" into `range`, "null" of none.
median_min_max() {
  local sorted
  mapfile -t sorted < <(printf '%s\n' "$@" | grep -E '^[0-9]+(\.[0-9]+)?$' | sort -n)
  range=null
  [[ ${#sorted[@]} -eq 0 ]] || range="[${sorted[${#sorted[@]} / 2]}, ${sorted[0]}, ${sorted[-1]}]"
}
# Adds a line for the part that has ended.
end_samples() {
  local line="" name range sm=() memory=() power=() heat=() busy=() a b c d e reason
  local -A reasons
  [[ -n $sample_file ]] || return
  while IFS=', ' read -r a b c d e reason; do
    [[ -n $reason ]] || continue
    sm+=("$a") memory+=("$b") power+=("$c") heat+=("$d") busy+=("$e")
    reasons[$reason]=$((${reasons[$reason]:-0} + 1))
  done < <(tail -n +$((samples_before + 1)) "$sample_file")
  line="{\"part\": \"$part\", \"date\": \"$date\", \"seconds\": ${#sm[@]}, \"of\": \"median, min, max\""
  median_min_max "${sm[@]}" && line+=", \"sm_mhz\": $range"
  median_min_max "${memory[@]}" && line+=", \"memory_mhz\": $range"
  median_min_max "${power[@]}" && line+=", \"watts\": $range"
  median_min_max "${heat[@]}" && line+=", \"celsius\": $range"
  median_min_max "${busy[@]}" && line+=", \"busy_percent\": $range"
  line+=", \"throttle_seconds\": {"
  for reason in "${!reasons[@]}"; do
    json_string "$reason"
    line+="$json: ${reasons[$reason]}, "
  done
  sample_lines+=("${line%, }}}")
}
