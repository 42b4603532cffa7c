#!/usr/bin/env bash
# Installs the packages that depthroute needs and this machine lacks, from the distribution (Debian 12 or newer, Ubuntu 24.04
# or newer), and the Python packages of tools/requirements.txt for this user. If CUDA is installed, also the headers of cudnn-frontend (MIT licence) and, where CUDA came without it, its
# disassembler (NVIDIA's licence), for this user. Safe to run again: with nothing missing it does nothing and needs no
# privileges.
#   tools/setup.sh            what building, training, evaluating and testing need
#   tools/setup.sh --demo     also the English text that tools/demo.sh trains on
#   tools/setup.sh --study    also the texts of tools/study.sh
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
  python3-pip python3-yaml python3-tqdm                    # tools/requirements.txt: its installer, what it depends on
  python3-xxhash                                           # checksums of token shards
)
# The tests of the job scripts start a Slurm on this machine; without these packages they are skipped.
slurm_packages=(slurm-wlm slurm-client slurmd slurmctld munge libpmix2)
for argument in "$@"; do
  case "$argument" in
    --demo) packages+=(dict-gcide) ;;
    --study) packages+=(anarchism linux-doc python3-doc) ;;
    *) echo "setup.sh: unknown argument '$argument' (there are --demo and --study)" >&2; exit 2 ;;
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

# fetch_wheel FOLDER NAME VERSION SHA256 PLATFORM: unpacks one wheel with a fixed checksum into FOLDER/wheel, whatever this
# machine's Python and processor. FOLDER/errors has the messages.
fetch_wheel() {
  local work=$1 name=$2 version=$3 sha256=$4 platform=$5
  python3 -m pip --version >/dev/null 2>&1 || (install_packages python3-pip) || true
  rm -rf "$work/download"
  echo "$name==$version --hash=sha256:$sha256" >"$work/requirements"
  python3 -m pip download -q --no-deps --require-hashes --only-binary=:all: --implementation cp --abi cp311 \
    --python-version 3.11 --platform "$platform" -d "$work/download" -r "$work/requirements" 2>>"$work/errors" &&
    python3 -m zipfile -e "$work"/download/*.whl "$work/wheel" 2>>"$work/errors"
}

user_folder=${XDG_DATA_HOME:-${HOME-}/.local/share}/depthroute

# kernels/cuda/cudnn.cmake looks for the headers in the same folder. Without them the build uses its own attention kernels,
# so no failure here is fatal.
install_cudnn_frontend() {
  local version=1.23.0
  local sha256=7bdae232a3071501012611fab14aae34dd16983205e56d3c1641317910fdd385
  local folder=$user_folder/cudnn-frontend-$version
  [[ ! -f $folder/include/cudnn_frontend.h ]] || return 0
  local work
  work=$(mktemp -d)
  if fetch_wheel "$work" nvidia-cudnn-frontend "$version" "$sha256" manylinux_2_28_x86_64 &&
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

# The disassembler, where CUDA was installed without it. tests/kernels/sass looks for it in the same folder; without it that
# check is skipped, so no failure here is fatal.
install_disassembler() {
  local version=13.5.37
  local cuobjdump_sha256=38780fee50863252a0b8926357faa91615ca1c8346490563f33a06100cd73f58
  local nvdisasm_sha256=d3fdbdd49fa53e2e4aacd3db8259d052bd2b049ececdcb69e92e083c6728e7ca
  local folder=$user_folder/cuda-disassembler-$version nvcc
  nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
  local beside
  beside=$(dirname "$(readlink -f "$nvcc")")
  [[ ! -x $beside/cuobjdump || ! -x $beside/nvdisasm ]] || return 0
  [[ ! -x $folder/nvdisasm ]] || return 0
  [[ $(uname -m) == x86_64 ]] || return 0
  local work
  work=$(mktemp -d)
  if fetch_wheel "$work" nvidia-cuda-cuobjdump "$version" "$cuobjdump_sha256" manylinux2014_x86_64 &&
     fetch_wheel "$work" nvidia-cuda-nvdisasm "$version" "$nvdisasm_sha256" manylinux2014_x86_64 &&
     mkdir -p "$folder" && chmod +x "$work"/wheel/nvidia/cu13/bin/* &&
     cp "$work"/wheel/nvidia_cuda_nvdisasm-*.dist-info/licenses/License.txt "$folder/" &&
     mv "$work/wheel/nvidia/cu13/bin/cuobjdump" "$work/wheel/nvidia/cu13/bin/nvdisasm" "$folder/"; then
    echo "setup: CUDA's disassembler $version installed in $folder"
  else
    echo "setup: CUDA's disassembler $version could not be fetched ($(grep -m 1 ERROR "$work/errors")); the test of the" \
      "kernels' machine code will be skipped" >&2
  fi
  rm -rf "$work"
}

# What the tools that read text and other programs' models need. Their tests are skipped without it, so no failure is fatal.
# tools/packages.py looks in the same folder; the copy of the list there says that it is whole.
install_python_packages() {
  local list folder
  list=$(dirname "${BASH_SOURCE[0]}")/requirements.txt
  folder=$user_folder/$(/usr/bin/python3 -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
  ! cmp -s "$list" "$folder/requirements.txt" || return 0
  mkdir -p "$user_folder"
  local work
  work=$(mktemp -d "$folder.XXXXXX")
  if /usr/bin/python3 -m pip install -q --no-deps --only-binary=:all: --target "$work/packages" -r "$list" 2>"$work/errors"; then
    cp "$list" "$work/packages/"
    rm -rf "$folder" && mv "$work/packages" "$folder"
    echo "setup: $(grep -c '^[^#]' "$list") Python packages installed in $folder"
  else
    echo "setup: Python packages of $list could not be fetched ($(grep -m 1 ERROR "$work/errors")); without them text can only be" \
      "tokenised to bytes: run setup.sh again when a Python package index can be reached" >&2
  fi
  rm -rf "$work"
}

install_packages "${packages[@]}"
install_python_packages
if ! (install_packages "${slurm_packages[@]}"); then
  echo "setup: Slurm could not be installed; its tests will be skipped" >&2
fi
if command -v nvcc >/dev/null || [[ -x /usr/local/cuda/bin/nvcc ]]; then
  install_cudnn_frontend
  install_disassembler
fi
echo "setup: everything needed is installed"
