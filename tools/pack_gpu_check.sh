#!/usr/bin/env bash
# Packs what gpu_check.sh needs into one small archive:
#   tools/pack_gpu_check.sh BUILD OUT.tar.xz|OUT.tar.zst [--arch 90a] [--limit MB]
# BUILD is a release build for one GPU architecture, here sm_90a (H100, H200); for anything else this says how to make one.
# --arch any takes what was built. The archive unpacks to depthroute/; on the machine with the GPU, which needs a driver, cuBLASLt, cuDNN
# and a C library no older than this machine's:
#   tar xf OUT.tar.xz && depthroute/share/depthroute/gpu_check.sh --budget 500 --out record.json
# Exit status: 1 if the archive is larger than the limit (25 MB) or something failed, 2 if called wrongly.
set -euo pipefail
source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

refuse() {
  printf 'pack_gpu_check.sh: %s\n' "$*" >&2
  exit 2
}
build="" out="" arch=90a limit=25
while [[ $# -gt 0 ]]; do
  case $1 in
    --arch | --limit)
      [[ $# -ge 2 ]] || refuse "$1 needs a value"
      declare "${1#--}=$2"
      shift
      ;;
    -*) refuse "unknown option $1" ;;
    *) if [[ -z $build ]]; then build=$1; elif [[ -z $out ]]; then out=$1; else refuse "unexpected argument $1"; fi ;;
  esac
  shift
done
[[ -n $out ]] || refuse "usage: pack_gpu_check.sh BUILD OUT.tar.xz|OUT.tar.zst [--arch 90a] [--limit MB]"
[[ $limit =~ ^[1-9][0-9]*$ ]] || refuse "--limit is a number of megabytes, not '$limit'"
case $out in
  *.tar.xz) compress=(xz "--lzma2=preset=9,dict=256MiB") ;; # programs repeat the same kernels far apart
  *.tar.zst) compress=(zstd -q --ultra -22 --long=27) ;;
  *) refuse "'$out' ends neither in .tar.xz nor in .tar.zst" ;;
esac
command -v "${compress[0]}" >/dev/null || refuse "${compress[0]} is not installed"
[[ -r $build/CMakeCache.txt ]] || refuse "'$build' is no build folder"

built=$(sed -n 's/^DEPTHROUTE_CUDA_ARCHITECTURES:[A-Z]*=//p' "$build/CMakeCache.txt")
kind=$(sed -n 's/^CMAKE_BUILD_TYPE:[A-Z]*=//p' "$build/CMakeCache.txt")
if [[ $arch != any && $built != "$arch-real" ]] || [[ $kind != Release ]]; then
  refuse "'$build' is a ${kind:-plain} build for '$built', not a release build for $arch alone: cmake -S $source_dir -B build/gpu_$arch -G Ninja" \
    "-DCMAKE_BUILD_TYPE=Release -DDEPTHROUTE_CUDA=ON -DDEPTHROUTE_CUDA_ARCHITECTURES=$arch-real &&" \
    "cmake --build build/gpu_$arch --target gpu_tests, then pack build/gpu_$arch"
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/pack_gpu_check.XXXXXX")
trap 'rm -rf "$work"' EXIT
tree=$work/depthroute share=$work/depthroute/share/depthroute
cmake --install "$build" --prefix "$tree" --strip >"$work/install.log" 2>&1 ||
  { tail -n 5 "$work/install.log" >&2; refuse "cmake --install failed: build the target gpu_tests first"; }
find "$tree/lib" -type f -name '*.so*' -exec strip --strip-unneeded {} + 2>/dev/null || true
# Nothing of gpu_check.sh prepares data or models, or looks at results.
rm -rf "$share"/{slurm,analysis,reporting,plotting,importing,tokenizing,task_requests}
rm -f "$share"/{analyze,report,plot,import_gguf,make_requests,tokenize_text}.py "$tree/bin/depthroute-convert"

# HDF5 may want libcurl, for files on S3, which nothing here reads; what libcurl wants in turn would be an eighth of the archive.
# In its place: a library whose functions all fail.
replace_libcurl() {
  local hdf5 curl
  hdf5=$(find "$tree/lib" -name 'libhdf5*.so*' ! -name '*_hl*' -type f | head -n 1)
  curl=$(objdump -p "${hdf5:-/dev/null}" 2>/dev/null | sed -n 's/^ *NEEDED *\(libcurl[^ ]*\)$/\1/p')
  [[ -n $curl ]] || return 0
  objdump -T "$hdf5" | awk -v functions="$work/curl.c" -v versions="$work/curl.map" '
    $NF ~ /^curl_/ {
      print "void *" $NF "(void) { return 0; }" > functions
      gsub(/[()]/, "", $(NF - 1))
      if ($(NF - 1) != "*UND*") of[$(NF - 1)] = of[$(NF - 1)] " " $NF ";"
    }
    END { printf "" > versions; for (v in of) print v " {" of[v] " };" > versions }'
  rm -f "$tree/lib/$curl"
  cc -shared -fPIC -Os -s "$work/curl.c" -Wl,-soname,"$curl" -Wl,--version-script="$work/curl.map" -o "$tree/lib/$curl"
}
# Deletes libraries that no program reaches.
prune_libraries() {
  local -A reached=()
  local file needed files=("$tree"/bin/*)
  while [[ ${#files[@]} -gt 0 ]]; do
    file=${files[0]} files=("${files[@]:1}")
    for needed in $(objdump -p "$file" 2>/dev/null | sed -n 's/^ *NEEDED *//p'); do
      [[ -z ${reached[$needed]:-} && -e $tree/lib/$needed ]] || continue
      reached[$needed]=1 reached[$(basename "$(realpath "$tree/lib/$needed")")]=1
      files+=("$tree/lib/$needed")
    done
  done
  for file in "$tree"/lib/*; do
    [[ -n ${reached[$(basename "$file")]:-} ]] || rm "$file"
  done
}
replace_libcurl
prune_libraries

# Sorted, without times and owners: the same tree gives the same archive.
tar -C "$work" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - depthroute | "${compress[@]}" >"$out.part"
mv "$out.part" "$out"
bytes=$(stat -c %s "$out")
printf '%s: %d.%d MB; unpacked %s\n' "$out" $((bytes / 1000000)) $((bytes / 100000 % 10)) "$(du -sh "$tree" | cut -f 1)"
if [[ $bytes -gt $((limit * 1000000)) ]]; then
  printf 'pack_gpu_check.sh: larger than %d MB; the largest files:\n' "$limit" >&2
  find "$tree" -type f -printf '%s %P\n' | sort -rn | head -n 12 >&2
  exit 1
fi
