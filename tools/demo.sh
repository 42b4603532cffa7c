#!/usr/bin/env bash
# Takes a fresh Debian or Ubuntu machine to a trained routing model, a wrapped plain model, and ablations of both in HDF5:
#   tools/demo.sh                 real English text (Debian's dict-gcide, the GNU Collaborative International Dictionary)
#   tools/demo.sh TEXT_FILE       any text file of at least 200 kB
# Writes only under build/; a second run starts over. About ten minutes on 2 cores, installation included.
set -euo pipefail
cd_to=$(dirname "$0")/..
text=${1:-}
if [[ $# -gt 1 || "$text" == -* ]]; then
  echo "usage: tools/demo.sh [TEXT_FILE]" >&2
  exit 2
fi
if [[ -n "$text" ]]; then
  [[ -r "$text" && -f "$text" ]] || { echo "demo.sh: cannot read the text file '$text'" >&2; exit 2; }
  text=$(realpath "$text")
  size=$(stat -c %s "$text")
  if [[ $size -lt 200000 ]]; then
    echo "demo.sh: '$text' has $size bytes, too few to train and validate on: give a file of at least 200000" >&2
    exit 2
  fi
fi
cd "$cd_to"

began=$SECONDS
step() { printf '\n== [%3d s] %s\n' "$((SECONDS - began))" "$*"; }

step "install what is missing"
if [[ -n "$text" ]]; then tools/setup.sh; else tools/setup.sh --demo; fi

step "build"
cmake --preset release >/dev/null
cmake --build --preset release -j "$(nproc)" --target depthroute-train depthroute-eval depthroute-tokenize
bin=build/release/bin
demo=build/demo
rm -rf "$demo"
mkdir -p "$demo/shards"

step "tokenise the text (bytes are the tokens)"
if [[ -z "$text" ]]; then
  text=$demo/gcide.txt
  gzip -dc </usr/share/dictd/gcide.dict.dz >"$text"
fi
# One percent for validation, but at least the 64 windows of 256 tokens that the evaluation reads.
fraction=$(awk -v size="$(stat -c %s "$text")" 'BEGIN { f = 20000 / size; print (f > 0.01 ? f : 0.01) }')
$bin/depthroute-tokenize "$text" --output "$demo/shards" --val-fraction "$fraction"

train=("$bin/depthroute-train" configs/demo.yaml)

step "train a Block AttnRes model, and kill it (SIGKILL) half way"
"${train[@]}" --dry-run
"${train[@]}" &
trainer=$!
trap 'kill -KILL $trainer 2>/dev/null || true' EXIT
half=$("${train[@]}" --print-config | awk '/^train:/{section=1} section && /^ *steps:/{print $2 / 2; exit}')
while kill -0 "$trainer" 2>/dev/null && ! compgen -G "$demo/attnres/checkpoints/step_$(printf '%08d' "$half")" >/dev/null; do
  sleep 0.2
done
kill -KILL "$trainer" 2>/dev/null || true
wait "$trainer" 2>/dev/null || true
trap - EXIT
echo "killed; left behind: $(ls "$demo/attnres/checkpoints" | tr '\n' ' ')"

step "run the same command again: it resumes from the newest whole checkpoint"
"${train[@]}"

step "train a plain Qwen3 of the same size"
"${train[@]}" --set model.residual.variant=additive --set output="$demo/plain"

step "ablate the trained model's routing"
$bin/depthroute-eval configs/eval-demo.yaml

step "wrap the plain model in the recency schedule and ablate that with the same cells"
$bin/depthroute-eval configs/eval-wrapped-demo.yaml

step "done"
cat <<TXT
Block AttnRes model    $demo/attnres/checkpoints/latest/model     (metrics: $demo/attnres/metrics.jsonl)
plain model            $demo/plain/checkpoints/latest/model       (metrics: $demo/plain/metrics.jsonl)
ablations, AttnRes     $demo/attnres.h5
ablations, wrapped     $demo/plain.h5
Look inside:           /usr/bin/python3 -c "import h5py; h5py.File('$demo/attnres.h5').visit(print)"
TXT
