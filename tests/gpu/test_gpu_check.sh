#!/usr/bin/env bash
# test_gpu_check.sh CMAKE BUILD: tools/gpu_check.sh without a GPU.
#  1. Installs BUILD, moves it, damages a golden case and runs every part there on the CPU, with an empty environment: all must pass
#     but the damaged case, which table, record and exit status must show. Repaired, its part done afresh must pass.
#  2. Rehearsal: the same tree with programs that execute the CUDA backend on the CPU. A call is stopped in its middle, and another
#     ended by its budget; the record must be whole at every moment, and a later call must go on with it.
#  3. A library that is missing, found in Python's folders or nowhere.
set -euo pipefail
cmake=$1 build=$2
folder=$(mktemp -d "${TMPDIR:-/tmp}/gpu_check_test.XXXXXX")
trap 'rm -rf "$folder"' EXIT

fail() {
  echo "FAILED: $*"
  tail -n 60 "$folder"/*.out "$folder"/install.log 2>/dev/null | cut -c 1-300
  exit 1
}
# check TREE NAME ARGUMENTS...: into NAME.out and, unless ARGUMENTS say otherwise, NAME.json; the exit status into `status`.
check() {
  local tree=$folder/$1 name=$2
  shift 2
  status=0
  # Keeps OpenBLAS's choice of kernels. The executed device has a cuDNN of its own.
  env -i PATH="$folder/tools:/usr/bin:/bin" CUDA_ON_HOST_CUDNN=91900 ${OPENBLAS_CORETYPE:+OPENBLAS_CORETYPE=$OPENBLAS_CORETYPE} \
    ${search:+PYTHONPATH=$search} bash "$tree/share/depthroute/gpu_check.sh" --tiny --out "$folder/$name.json" "$@" \
    >"$folder/$name.out" 2>&1 || status=$?
  [[ ! -e $folder/$name.json ]] || whole "$folder/$name.json"
}
whole() { python3 -m json.tool "$1" >/dev/null || fail "$1 is no JSON"; }
has() { grep -q -F "$2" "$folder/$1.json" || fail "$1.json lacks $2"; }
passed() { has "$1" "\"part\": \"$2\", \"name\": \"$3\", \"result\": \"passed\""; }
summary() { tail -n 1 "$folder/$1.out"; }
mkdir "$folder/tools"

# ---- 1. the CPU
"$cmake" --install "$build" --prefix "$folder/prefix" >"$folder/install.log" 2>&1 || fail "cmake --install"
mv "$folder/prefix" "$folder/elsewhere"
for program in "$folder"/elsewhere/bin/*; do
  if env -i ldd "$program" | grep -v -E "$folder/|linux-vdso|ld-linux|lib(c|m|mvec|pthread|dl|rt|util|resolv|anl)\.so|libcu(da|dart|blas|dnn)|libnv|libnccl"; then
    fail "$program uses the libraries above of this machine"
  fi
done

model=$folder/elsewhere/share/depthroute/golden/kimi/model.safetensors
cp "$model" "$folder/kept"
# One bit of one weight's exponent.
offset=$(($(stat -c %s "$model") - 1))
byte=$(od -An -tu1 -j $offset -N 1 "$model" | tr -d ' ')
printf "\\x$(printf %02x $((byte ^ 1)))" | dd of="$model" bs=1 seek=$offset conv=notrunc status=none
check elsewhere cpu --device cpu --budget 900
[[ $status -eq 1 ]] || fail "exit status $status with a damaged golden case"
grep -q '^model fp32  *FAILED ' "$folder/cpu.out" || fail "the damage is not in the table"
has cpu '"part": "golden", "name": "model fp32", "result": "failed"'
[[ $(summary cpu) =~ ^[1-9][0-9]*\ passed,\ [1-9][0-9]*\ failed,\ [0-9]+\ skipped,\ 0\ not\ run ]] || fail "its last line is '$(summary cpu)'"
[[ $(grep -c '"result": "failed"' "$folder/cpu.json") -eq $(grep -c '"part": "golden".*"result": "failed"' "$folder/cpu.json") ]] ||
  fail "an undamaged part failed"
passed cpu ops Routing
passed cpu resume "resume fp32"
passed cpu evaluation "cells fp32"
passed cpu production "together or singly"
has cpu '"name":"routing_forward/D:64/n:3"'
has cpu '"name":"gemm/head/dhead"'
has cpu '"name":"cumulative","implementation":"depthroute"'
if command -v mpirun >/dev/null; then passed cpu ranks "two ranks: losses"; fi

cp "$folder/kept" "$model"
check elsewhere cpu --device cpu --budget 300 --only golden
[[ $status -eq 0 ]] || fail "exit status $status after the repair"
[[ $(summary cpu) =~ ^([0-9]+)\ passed,\ 0\ failed,\ [0-9]+\ skipped,\ 0\ not\ run\;\ parts\ not\ complete:\ \ none$ ]] ||
  fail "its last line is '$(summary cpu)'"
on_cpu=${BASH_REMATCH[1]}
passed cpu ops Routing # kept
[[ $(grep -c '"name": "Routing"' "$folder/cpu.json") -eq 1 ]] || fail "a check is in the record twice"

# Refusals: one line, status 2, nothing written.
refused() { # NAME, after a check
  [[ $status -eq 2 && $(wc -l <"$folder/$1.out") -eq 1 ]] || fail "$1: no one-line refusal (status $status)"
}
before=$(sha256sum <"$folder/cpu.json")
commit=$(<"$folder/elsewhere/share/depthroute/commit")
echo another >"$folder/elsewhere/share/depthroute/commit"
check elsewhere other --device cpu --budget 10 --out "$folder/cpu.json"
refused other
echo "$commit" >"$folder/elsewhere/share/depthroute/commit"
check elsewhere other --device cuda --budget 10 --out "$folder/cpu.json"
refused other
[[ $(sha256sum <"$folder/cpu.json") == "$before" ]] || fail "a refused call wrote into the record"
check elsewhere nowhere --prefix "$folder" --budget 10
refused nowhere
check elsewhere noparts --budget 10 --only ops,nonsense
refused noparts

# ---- 2. rehearsal on the executed backend
cp -r "$folder/elsewhere" "$folder/executed"
for program in depthroute-train depthroute-eval depthroute-bench-ops depthroute-bench-step depthroute-check-shape; do
  cp -f "$build/bin/on_host/$program" "$folder/executed/bin/"
done
for program in test_ops test_model test_eval; do cp -f "$build/bin/${program}_on_host" "$folder/executed/bin/$program"; done
# Stands in for nvidia-smi: a steady clock, throttled.
cat >"$folder/tools/nvidia-smi" <<'SMI'
#!/bin/sh
case "$*" in
  *clocks_event_reasons*) exit 6 ;; # an older driver
  *-l*) while echo '1755, 2619, 699.0, 64, 100, 0x0000000000000004'; do sleep 0.2; done ;;
  *throttle*) echo '1980, 2619, 600.0, 60, 99, 0x0' ;;
  *) echo 'Stand-in, 580.1, 1980 MHz, 2619 MHz, 700 W, Enabled' ;;
esac
SMI
chmod +x "$folder/tools/nvidia-smi"

# Stopped while it does the operations, once two of them are done.
(check executed stopped --budget 600; echo $status >"$folder/stopped.status") &
caller=$!
script=""
while kill -0 $caller 2>/dev/null; do
  if [[ -r $folder/stopped.json && $(grep -c '"part": "ops".*"result": "passed"' "$folder/stopped.json") -ge 2 ]]; then
    cp "$folder/stopped.json" "$folder/running.json"
    script=$(pgrep -f "$folder/executed/share/depthroute/gpu_check.sh" | head -n 1)
    kill -TERM "$script"
    break
  fi
  sleep 0.05
done
wait $caller
[[ -n $script ]] || fail "the rehearsal ended before it could be stopped"
[[ $(<"$folder/stopped.status") -eq 1 ]] || fail "exit status $(<"$folder/stopped.status") of the stopped call"
whole "$folder/running.json"
has running '"ended": "killed, or still running"'
has stopped '"ended": "SIGTERM"'
grep '"result": "passed"' "$folder/running.json" | sed 's/,$//' >"$folder/done"
[[ $(grep -c . "$folder/done") -ge 3 ]] || fail "the record of the running call holds too little"
grep -q -F "sizes" "$folder/running.json" || fail "no sizes"
while IFS= read -r line; do has stopped "$line"; done <"$folder/done"
has stopped '    "bench-step",'   # among what was not run
has stopped '"ops: Swiglu"'
if pgrep -f "$folder/executed" >"$folder/left"; then fail "still running after SIGTERM: $(<"$folder/left")"; fi

# Goes on: what is there is kept, what is named is added.
check executed stopped --budget 400 --only bench-step,bench-ops,production,resume
[[ $status -eq 0 ]] || fail "exit status $status of the call that went on"
while IFS= read -r line; do has stopped "$line"; done <"$folder/done"
has stopped '"ops: Swiglu"'
for part in bench-step bench-ops production resume; do has stopped "\"part\": \"$part\", \"state\": \"complete\""; done
passed stopped production "against the CPU: direction of gradients"
passed stopped resume "resume bf16"
has stopped '"sm_mhz": [1755, 1755, 1755], "memory_mhz": [2619, 2619, 2619], "watts": [699.0, 699.0, 699.0]'
has stopped '"throttle_seconds": {"0x0000000000000004": '
has stopped '"device":"cuda","precision":"bf16"'
has stopped '"budget": 600,'
has stopped '"budget": 400,'

# Ended by its budget.
began=$SECONDS
check executed short --budget 12 --only ops,golden
((SECONDS - began <= 20)) || fail "a budget of 12 s took $((SECONDS - began)) s"
[[ $status -eq 0 ]] || fail "exit status $status at the end of the budget"
has short '"result": "not_run"'
has short '"ended": "budget used up"'

# ---- 3. a library that is not there
mkdir -p "$folder/wheels/nvidia/cudnn/lib" "$folder/wheels/nvidia/cublas/lib"
touch "$folder/wheels/nvidia/cudnn/lib/libcudnn.so.77" "$folder/wheels/nvidia/cublas/lib/libcublasLt.so.12"
cat >"$folder/executed/bin/depthroute-bench-ops" <<'PROGRAM'
#!/bin/sh
IFS=:
for folder in $LD_LIBRARY_PATH; do [ -e "$folder/libcudnn.so.77" ] && echo "cuda: stand-in" && exit 0; done
echo "depthroute-bench-ops: error while loading shared libraries: libcudnn.so.77: cannot open shared object file" >&2
exit 127
PROGRAM
search=""
check executed missing --budget 20 --only describe,ops
[[ $status -eq 1 ]] || fail "exit status $status without a library"
grep -q '^gpu_check.sh: FAILED: nothing can run on device cuda: .*libcudnn.so.77.*looked in: .*found there: ' "$folder/missing.out" ||
  fail "the missing library is not named"
has missing '"name": "device", "result": "failed"'
has missing '    "ops",'
search=$folder/wheels
check executed found --budget 20 --only describe
passed found describe device
has found "$folder/wheels/nvidia/cudnn/lib"
# A cuDNN that cannot be used: everything runs, at another speed.
sed -i '/^echo.*>&2$/,$d' "$folder/executed/bin/depthroute-bench-ops"
echo 'echo "cuda: stand-in, attention own kernels (cuDNN 9.8.0 is older than 9.11)"' >>"$folder/executed/bin/depthroute-bench-ops"
search=""
check executed slow --budget 20 --only describe
has slow '"name": "device", "result": "failed"'
has slow 'own kernels (cuDNN 9.8.0 is older than 9.11); looked in'
echo "gpu_check.sh: $on_cpu checks passed on the CPU; damage, a stop, a budget's end and a missing library were handled"
