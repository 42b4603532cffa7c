#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test: style, the release build's tests, the same tests under Address- and
# UndefinedBehaviorSanitizer, and the fuzzers for a bounded time.
#   tools/test.sh             everything
#   tools/test.sh --fast      style and the release build's tests only
#   --robustness              every kill and every flip of tests/robustness, not the day's share: half an hour more
#   --werror                  warnings of the compiler are errors, as in continuous integration
#   --debian 12|13            all this in a minimal Debian of that version, on the last commit (tools/debian_root.sh; needs root)
set -euo pipefail
cd "$(dirname "$0")/.."

fast=false werror=false debian="" inside=()
while [[ $# -gt 0 ]]; do
  case "$1" in
    --fast) fast=true inside+=("$1") ;;
    --robustness) export DEPTHROUTE_ROBUSTNESS=all; inside+=("$1") ;;
    --werror) werror=true inside+=("$1") ;;
    --debian)
      [[ ${2:-} == 12 || ${2:-} == 13 ]] || { echo "test.sh: --debian takes 12 or 13" >&2; exit 2; }
      debian=$2
      shift
      ;;
    *) echo "test.sh: unknown argument '$1' (there are --fast, --robustness, --werror and --debian 12|13)" >&2; exit 2 ;;
  esac
  shift
done
[[ -z $debian ]] || exec tools/debian_root.sh "$debian" tools/test.sh "${inside[@]}"
fuzz_seconds=${DEPTHROUTE_FUZZ_SECONDS:-20}
jobs=$(nproc)

step() { printf '\n== %s\n' "$*"; }

step "setup"
tools/setup.sh

step "style"
# Other versions of clang-format disagree with each other; the check runs where version 14 is at hand and says so elsewhere.
if clang-format --version | grep -q 'version 14\.'; then
  git ls-files -- '*.h' '*.cpp' '*.cu' '*.cuh' | xargs clang-format --dry-run -Werror
  echo "style: clang-format is content"
else
  echo "style: SKIPPED, clang-format is not version 14 ($(clang-format --version))"
fi
too_long=$(git ls-files -- '*.h' '*.cpp' '*.cu' '*.cuh' '*.sh' '*.py' | xargs wc -l | awk '$1 > 450 && $2 != "total"')
if [[ -n "$too_long" ]]; then
  printf 'style: files over 450 lines:\n%s\n' "$too_long" >&2
  exit 1
fi
tools/check_citations.py

# Turned on here and never off: what is configured stays, as with any other option, and the folder need not be built anew.
configure() { # PRESET
  local options=()
  if $werror; then options=(-DDEPTHROUTE_WERROR=ON); fi
  cmake --preset "$1" "${options[@]}" >/dev/null
}

step "release build"
configure release
cmake --build --preset release -j "$jobs"

step "tests"
ctest --preset release -j "$jobs" --output-junit junit.xml

if $fast; then exit 0; fi

step "build with Address- and UndefinedBehaviorSanitizer"
configure asan
cmake --build --preset asan -j "$jobs"

step "tests under sanitizers"
# OpenBLAS keeps its thread buffers until exit by design; leaks are looked for in our own code by tests/lsan.supp.
LSAN_OPTIONS="suppressions=$PWD/tests/lsan.supp" ctest --preset asan -j "$jobs" --output-junit junit.xml

step "fuzzers, $fuzz_seconds s each"
configure fuzz
cmake --build --preset fuzz -j "$jobs"
fuzzers=0
for fuzzer in build/fuzz/bin/fuzz_*; do
  name=$(basename "$fuzzer")
  corpus=build/fuzz/corpus/$name
  mkdir -p "$corpus"
  seeds=()
  [[ -d tests/fuzz/corpus/$name ]] && seeds=("tests/fuzz/corpus/$name")
  echo "-- $name"
  (cd build/fuzz && exec "bin/$name" -max_total_time="$fuzz_seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    "corpus/$name" "${seeds[@]/#/../../}" >"$name.log" 2>&1) ||
    { tail -n 40 "build/fuzz/$name.log" >&2; echo "$name found a defect" >&2; exit 1; }
  grep -E 'stat::number_of_executed_units' "build/fuzz/$name.log"
  fuzzers=$((fuzzers + 1))
done

step "summary"
# The totals of both ctest runs (a skipped test is counted as skipped, never as passed) and the fuzzers.
count() { sed -n "s/.*<testsuite .*//; s/^[[:space:]]*$1=\"\([0-9]*\)\".*/\1/p" "$2" | head -n 1; }
passed=$fuzzers
skipped=0
for preset in release asan; do
  report=build/$preset/junit.xml
  tests=$(count tests "$report")
  disabled=$(($(count skipped "$report") + $(count disabled "$report")))
  echo "$preset: $tests tests, $disabled skipped"
  passed=$((passed + tests - disabled))
  skipped=$((skipped + disabled))
done
executions=$(sed -n 's/^stat::number_of_executed_units: *//p' build/fuzz/fuzz_*.log | awk '{ sum += $1 } END { print sum + 0 }')
echo "fuzzers: $fuzzers, $fuzz_seconds s each, $executions executions, 0 failures"
python3 tests/robustness/summary.py build/release build/asan
echo "$passed passed, 0 failed, $skipped skipped"
