#!/usr/bin/env bash
# Installs what depthroute needs and this machine lacks, from the distribution's own packages (Debian 12 or newer, Ubuntu
# 24.04 or newer). Safe to run again: with nothing missing it does nothing and needs no privileges.
#   tools/setup.sh            to build, train, evaluate and test
#   tools/setup.sh --demo     also the English text tools/demo.sh trains on
set -euo pipefail

packages=(
  g++ cmake ninja-build pkg-config git ca-certificates
  libyaml-cpp-dev nlohmann-json3-dev libcli11-dev libspdlog-dev libfmt-dev libxxhash-dev
  libhdf5-dev libopenblas-openmp-dev
  libgtest-dev libbenchmark-dev clang-format ccache        # tests, benchmarks, style
  clang libclang-rt-dev                                    # fuzzing (libFuzzer)
  python3 python3-h5py                                     # results are read back in tests
)
for argument in "$@"; do
  case "$argument" in
    --demo) packages+=(dict-gcide) ;;
    *) echo "setup.sh: unknown argument '$argument' (there is only --demo)" >&2; exit 2 ;;
  esac
done

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || true)
  [[ "$status" == "install ok installed" ]] || missing+=("$package")
done
if [[ ${#missing[@]} -eq 0 ]]; then
  echo "setup: everything needed is installed"
  exit 0
fi

if ! command -v apt-get >/dev/null; then
  echo "setup.sh: this is not a Debian or Ubuntu system; install the equivalents of: ${missing[*]}" >&2
  exit 1
fi
as_root=()
if [[ $EUID -ne 0 ]]; then
  if ! command -v sudo >/dev/null; then
    echo "setup.sh: packages are missing and neither root nor sudo is at hand; ask for: ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "setup: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
echo "setup: done"
