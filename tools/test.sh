#!/usr/bin/env bash
# Installs what is missing, builds, and runs the tests of every day, in about an hour on 2 cores from a fresh clone:
#   style                     clang-format, lengths of files, citations and links of documents
#   release tests             all of ctest
#   sanitizers                the same under Address- and UndefinedBehaviorSanitizer
#   fuzzers                   each for DEPTHROUTE_FUZZ_SECONDS (20)
# Less:
#   --fast                    style and release tests only
#   ctest --preset release -L ROOM    one room, after building target ROOM_tests
# More, for some days (tests/README.md has more of these):
#   --robustness              every kill and every flip of tests/robustness, not the day's share: an hour more
#   --tidy                    clang-tidy over all sources but tests and .cu files: ten to twenty minutes more
#   --debian 12|13            all this in a minimal Debian of that version, on the last commit (tools/debian_root.sh; needs root)
# And:
#   --werror                  compiler warnings are errors, as in continuous integration
set -euo pipefail
cd "$(dirname "$0")/.."

fast=false werror=false tidy=false debian="" inside=()
while [[ $# -gt 0 ]]; do
  case "$1" in
    --fast) fast=true inside+=("$1") ;;
    --robustness) export DEPTHROUTE_ROBUSTNESS=all; inside+=("$1") ;;
    --tidy) tidy=true inside+=("$1") ;;
    --werror) werror=true inside+=("$1") ;;
    --debian)
      [[ ${2:-} == 12 || ${2:-} == 13 ]] || { echo "test.sh: --debian takes 12 or 13" >&2; exit 2; }
      debian=$2
      shift
      ;;
    *) echo "test.sh: unknown argument '$1' (there are --fast, --robustness, --tidy, --werror and --debian 12|13)" >&2; exit 2 ;;
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
# Versions of clang-format disagree with one another, so only version 14 checks.
if clang-format --version | grep -q 'version 14\.'; then
  git ls-files -- '*.h' '*.cpp' '*.cu' '*.cuh' | xargs clang-format --dry-run -Werror
  echo "style: clang-format found nothing"
else
  echo "style: SKIPPED, clang-format is not version 14 ($(clang-format --version))"
fi
too_long=$(git ls-files -- '*.h' '*.cpp' '*.cu' '*.cuh' '*.sh' '*.py' | xargs wc -l | awk '$1 > 450 && $2 != "total"')
if [[ -n "$too_long" ]]; then
  printf 'style: files over 450 lines:\n%s\n' "$too_long" >&2
  exit 1
fi
tools/check_citations.py

# Only ever turns -Werror on: without --werror a folder keeps what it was configured with, so that it need not be rebuilt.
configure() { # PRESET
  local options=()
  if $werror; then options=(-DDEPTHROUTE_WERROR=ON); fi
  cmake --preset "$1" "${options[@]}" >/dev/null
}

step "release build"
configure release
cmake --build --preset release -j "$jobs"

if $tidy; then
  step "clang-tidy"
  command -v clang-tidy >/dev/null || { echo "test.sh: --tidy needs clang-tidy: apt-get install clang-tidy" >&2; exit 2; }
  # Only what this build compiles has its flags in the compile commands.
  git ls-files -- {configs,data,kernels,train,eval,tools}/'*.cpp' |
    while read -r file; do if grep -q -F "/$file\"" build/release/compile_commands.json; then echo "$file"; fi; done |
    xargs -P "$jobs" -n 1 clang-tidy -p build/release --quiet
  echo "clang-tidy found nothing"
fi

step "tests"
ctest --preset release -j "$jobs" --output-junit junit.xml

if $fast; then exit 0; fi

step "build with Address- and UndefinedBehaviorSanitizer"
configure asan
cmake --build --preset asan -j "$jobs"

step "tests under sanitizers"
# OpenBLAS keeps its thread buffers until exit by design; tests/lsan.supp leaves only our own leaks.
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
