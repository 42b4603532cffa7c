# The machine, and CUDA's libraries on it. Sourced by gpu_check.sh, never run.

# Folders that may hold CUDA's libraries and are not searched by the loader: the toolkit's, and those of Python's wheels, which
# PyTorch's images have instead. One per line.
library_folders() {
  local folder
  {
    for folder in "${CUDA_HOME:-/usr/local/cuda}"/lib64 "${CUDA_HOME:-/usr/local/cuda}"/lib /usr/local/cuda*/lib64 /usr/local/cuda*/lib \
      /usr/local/cuda*/targets/*/lib; do
      say "$folder"
    done
    command -v python3 >/dev/null && timeout 20 python3 - 2>/dev/null <<'PYTHON'
import glob
import importlib.util
import os

for name, pattern in (("nvidia", "*/lib"), ("torch", "lib")):
    try:
        found = importlib.util.find_spec(name)
    except Exception:
        found = None
    for folder in (found.submodule_search_locations if found else None) or []:
        print("\n".join(sorted(glob.glob(os.path.join(folder, pattern)))))
PYTHON
    # A python3 other than the one that has the wheels.
    for folder in /usr/local/lib/python3*/*-packages/nvidia/*/lib /usr/lib/python3*/*-packages/nvidia/*/lib \
      /opt/*/lib/python3*/site-packages/nvidia/*/lib; do
      say "$folder"
    done
  } | while IFS= read -r folder; do [[ -d $folder ]] && say "$folder"; done | sort -u
}
# find_library NAME: paths in those folders, one per line; NAME may be a pattern.
find_library() {
  local folder file
  for folder in "${folders[@]}"; do
    for file in "$folder"/$1; do [[ -e $file ]] && say "$file"; done
  done
}

# Into `description` and a status. `missing` is the line that says so where a library is not there. Without a cuDNN that can be used,
# the line of attention names own kernels, with the reason in brackets.
describe() {
  local log=$work/describe.log status=0
  run 60 "$log" "$bin/depthroute-bench-ops" --describe --device "$device" || status=$?
  description=$(tail -n +2 "$log")
  [[ $status -eq 0 || -n $description ]] || description="depthroute-bench-ops --describe: $(describe_status $status)"
  missing=$(grep -i -E 'shared libraries|shared object|own kernels \(|(cublas|cudnn|nvrtc|nccl).*(not found|missing|cannot be (loaded|opened|found)|not loaded)' \
    <<<"$description" | head -n 1)
  return $status
}

machine_fact() { # NAME TEXT
  local json
  json_string "$2"
  machine_lines+=("{\"name\": \"$1\", \"is\": $json}")
  say "$(printf '%-12s' "$1") $2"
}

# Describes the machine. Sets `unusable` to the reason if nothing can run on the device, `lacking` if a library that the device's
# work should use is not there.
describe_machine() {
  local name json paths cpu status=0
  lacking=""
  part=describe part_deadline=$deadline folders=()
  describe || status=$?
  if [[ -n $missing ]]; then
    local first=$missing
    mapfile -t folders < <(library_folders)
    printf -v paths '%s:' "${folders[@]}"
    export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}${paths%:}
    status=0
    describe || status=$?
    if [[ -n $missing ]]; then
      lacking="$missing; looked in: ${LD_LIBRARY_PATH//:/, }; found there:"
      for name in 'libcublasLt.so*' 'libcudnn.so*' 'libnccl.so*'; do
        paths=$(find_library "$name" | tr '\n' ' ')
        lacking+=" ${name%\*}: ${paths:-none};"
      done
    else
      machine_fact libraries "found in $LD_LIBRARY_PATH, after: $first"
    fi
  fi
  [[ $status -eq 0 ]] || unusable=${lacking:-${description//$'\n'/ }}
  machine_fact program "$("$bin/depthroute-train" --version 2>&1 | head -n 1)"
  machine_fact device "${description//$'\n'/ }"
  if command -v nvidia-smi >/dev/null; then
    machine_fact driver "$(timeout 20 nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,clocks.max.mem,power.limit,ecc.mode.current \
      --format=csv,noheader 2>&1 | head -n 1)"
  fi
  cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
  machine_fact cpu "$(nproc) x ${cpu:-$(uname -m)}"
  machine_fact system "$(uname -sr)"
}
# One loud line, and a record that says so.
report_unusable() {
  part=describe check=device check_began=$SECONDS cut=false
  add_check describe device failed "" "" "$unusable" "$SECONDS"
  report_line FAILED "" "" ""
  part_state[describe]=incomplete
  printf 'gpu_check.sh: FAILED: nothing can run on device %s: %s\n' "$device" "$unusable" >&2
}

part_describe() {
  local log=$work/ceilings.log status=0 tiny=()
  if wanted device; then
    if [[ -z $lacking ]]; then
      finish passed "" "" "${description:0:160}"
    else # other kernels take its place, at another speed
      finish failed "" "" "$lacking"
      printf 'gpu_check.sh: FAILED: a library is missing: %s\n' "$lacking" >&2
    fi
  fi
  [[ $sizes == full ]] || tiny=(--tiny)
  if wanted ceilings; then
    rm -f "$work/ceilings.jsonl"
    run 120 "$log" "$bin/depthroute-bench-ops" --ceilings "${tiny[@]}" --device "$device" --json "$work/ceilings.jsonl" || status=$?
    measured machine_speed "$work/ceilings.jsonl"
    finish_run $status "$(tail -n 1 "$log" | cut -c 1-160)" "$log"
  fi
}
