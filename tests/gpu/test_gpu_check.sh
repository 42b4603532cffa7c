#!/usr/bin/env bash
# test_gpu_check.sh CMAKE BUILD: installs BUILD, moves it, and runs its gpu_check.sh on the CPU with an empty environment, which must
# pass. Then again with a damaged golden case: the script must continue, report it in table and record, and exit with 1.
set -euo pipefail
cmake=$1 build=$2
folder=$(mktemp -d "${TMPDIR:-/tmp}/gpu_check_test.XXXXXX")
trap 'rm -rf "$folder"' EXIT

fail() {
  echo "FAILED: $*"
  tail -n 40 "$folder"/*.out "$folder"/install.log 2>/dev/null | cut -c 1-300
  exit 1
}
check() { # NAME ARGUMENTS...
  # Keeps OpenBLAS's choice of kernels.
  env -i PATH=/usr/bin:/bin ${OPENBLAS_CORETYPE:+OPENBLAS_CORETYPE=$OPENBLAS_CORETYPE} \
    bash "$folder/elsewhere/share/depthroute/gpu_check.sh" --device cpu --quick --out "$folder/$1.json" "${@:2}" \
    >"$folder/$1.out" 2>&1
}

"$cmake" --install "$build" --prefix "$folder/prefix" >"$folder/install.log" 2>&1 || fail "cmake --install"
mv "$folder/prefix" "$folder/elsewhere"
for program in "$folder"/elsewhere/bin/*; do
  if env -i ldd "$program" | grep -v -E "$folder/|linux-vdso|ld-linux|lib(c|m|mvec|pthread|dl|rt|util|resolv|anl)\.so|libcu(da|dart|blas|dnn)|libnv|libnccl"; then
    fail "$program uses the libraries above of this machine"
  fi
done

check whole || fail "gpu_check.sh on an undamaged installation"
summary=$(tail -n 1 "$folder/whole.out")
[[ $summary =~ ^([0-9]+)\ passed,\ 0\ failed,\ [0-9]+\ skipped$ ]] || fail "its last line is '$summary'"
passed=${BASH_REMATCH[1]}
for part in '"record": 1' '"name": "model golden fp32", "result": "passed", "figure": 0, "bound": 0' \
  '"name": "resume fp32", "result": "passed"' '"name": "cells fp32", "result": "passed"' \
  '"name":"rms_norm_forward"' '"name":"kimi","implementation":"depthroute"'; do
  grep -q -F "$part" "$folder/whole.json" || fail "the record lacks $part"
done
if command -v mpirun >/dev/null; then
  grep -q -F '"name": "two ranks: losses", "result": "passed"' "$folder/whole.json" || fail "two ranks were not compared with one"
fi
python3 -m json.tool "$folder/whole.json" >/dev/null || fail "the record is no JSON"

# One bit of one weight's exponent.
model=$folder/elsewhere/share/depthroute/golden/kimi/model.safetensors
offset=$(($(stat -c %s "$model") - 1))
byte=$(od -An -tu1 -j $offset -N 1 "$model" | tr -d ' ')
printf "\\x$(printf %02x $((byte ^ 1)))" | dd of="$model" bs=1 seek=$offset conv=notrunc status=none
status=0
check damaged --skip-speed || status=$?
[[ $status -eq 1 ]] || fail "exit status $status with a damaged golden case"
grep -q '^model golden fp32  *FAILED ' "$folder/damaged.out" || fail "the damage is not in the table"
grep -q '"name": "model golden fp32", "result": "failed"' "$folder/damaged.json" || fail "the damage is not in the record"
grep -q '"name": "cells fp32", "result": "passed"' "$folder/damaged.json" || fail "the script did not continue"
[[ $(tail -n 1 "$folder/damaged.out") =~ ^[0-9]+\ passed,\ [1-9][0-9]*\ failed,\ [0-9]+\ skipped$ ]] || fail "no count of failures"

status=0
check nowhere --prefix "$folder" || status=$?
[[ $status -eq 2 && $(wc -l <"$folder/nowhere.out") -eq 1 ]] || fail "no one-line refusal of a folder that is no installation"
echo "gpu_check.sh: $passed checks passed, damage found"
