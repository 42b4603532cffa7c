#!/usr/bin/env bash
# Installs the packages that depthroute needs and this machine lacks, from the distribution (Debian 12 or newer, Ubuntu 24.04
# or newer). If CUDA is installed, also the headers of cudnn-frontend (MIT licence), for this user. Safe to run again: with
# nothing missing it does nothing and needs no privileges.
#   tools/setup.sh            what building, training, evaluating and testing need
#   tools/setup.sh --demo     also the English text that tools/demo.sh trains on
set -euo pipefail

packages=(
  g++ cmake ninja-build pkg-config git ca-certificates
  libyaml-cpp-dev nlohmann-json3-dev libcli11-dev libfmt-dev libxxhash-dev
  libhdf5-dev libopenblas-openmp-dev
  libopenmpi-dev openmpi-bin                               # MPI: several ranks
  libgtest-dev libbenchmark-dev clang-format ccache        # tests, benchmarks, style
  clang libclang-rt-dev                                    # fuzzing (libFuzzer)
  python3 python3-h5py strace                              # results are read back, programs killed, in tests
  python3-numpy python3-scipy python3-matplotlib           # analysis and reports
  python3-xarray python3-h5netcdf python3-netcdf4          # results are opened by other programs, in tests
)
# The tests of the job scripts start a Slurm on this machine; without these packages they are skipped.
slurm_packages=(slurm-wlm slurm-client slurmd slurmctld munge libpmix2)
for argument in "$@"; do
  case "$argument" in
    --demo) packages+=(dict-gcide) ;;
    *) echo "setup.sh: unknown argument '$argument' (there is only --demo)" >&2; exit 2 ;;
  esac
done

# Installs those of its arguments that are missing.
install_packages() {
  local missing=() package status as_root=()
  for package in "$@"; do
    # Debian 13 and Ubuntu 24.04 renamed libraries whose time_t grew: libpmix2 is libpmix2t64 there.
    status=$(dpkg-query -W -f='${Status}\n' "$package" "${package}t64" 2>/dev/null || true)
    grep -q -x "install ok installed" <<<"$status" || missing+=("$package")
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  if ! command -v apt-get >/dev/null; then
    echo "setup.sh: this is not a Debian or Ubuntu system; install the equivalents of: ${missing[*]}" >&2
    exit 1
  fi
  if [[ $EUID -ne 0 ]]; then
    if ! command -v sudo >/dev/null; then
      echo "setup.sh: packages are missing, and this is neither root nor is there sudo; ask an administrator for: ${missing[*]}" >&2
      exit 1
    fi
    as_root=(sudo)
  fi
  echo "setup: installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
    >/dev/null
}

# Takes the headers from one wheel with a fixed checksum, whatever this machine's Python and processor; kernels/cuda/cudnn.cmake
# looks for them in the same folder. Without them the build uses its own attention kernels, so no failure here is fatal.
install_cudnn_frontend() {
  local version=1.23.0
  local sha256=7bdae232a3071501012611fab14aae34dd16983205e56d3c1641317910fdd385
  local folder=${XDG_DATA_HOME:-${HOME-}/.local/share}/depthroute/cudnn-frontend-$version
  [[ ! -f $folder/include/cudnn_frontend.h ]] || return 0
  python3 -m pip --version >/dev/null 2>&1 || (install_packages python3-pip) || true
  local work
  work=$(mktemp -d)
  echo "nvidia-cudnn-frontend==$version --hash=sha256:$sha256" >"$work/requirements"
  if python3 -m pip download -q --no-deps --require-hashes --only-binary=:all: --implementation cp --abi cp311 \
       --python-version 3.11 --platform manylinux_2_28_x86_64 -d "$work" -r "$work/requirements" 2>"$work/errors" &&
     python3 -m zipfile -e "$work"/nvidia_cudnn_frontend-*.whl "$work/wheel" 2>>"$work/errors" &&
     mkdir -p "$folder" && rm -rf "$folder/incomplete" &&
     cp -r "$work/wheel/include" "$folder/incomplete" &&
     cp "$work"/wheel/*.dist-info/licenses/LICENSE.txt "$folder/" &&
     mv "$folder/incomplete" "$folder/include"; then
    echo "setup: cudnn-frontend $version installed in $folder"
  else
    echo "setup: cudnn-frontend $version could not be fetched ($(grep -m 1 ERROR "$work/errors")); without it attention on" \
      "GPUs runs on depthroute's own kernels, which are slower: run setup.sh again when a Python package index can be reached" >&2
  fi
  rm -rf "$work"
}

install_packages "${packages[@]}"
if ! (install_packages "${slurm_packages[@]}"); then
  echo "setup: Slurm could not be installed; its tests will be skipped" >&2
fi
if command -v nvcc >/dev/null || [[ -x /usr/local/cuda/bin/nvcc ]]; then install_cudnn_frontend; fi
echo "setup: everything needed is installed"
