#!/usr/bin/env bash
# Takes a fresh Debian or Ubuntu machine to a trained routing model, a wrapped plain model, ablations of both in HDF5, and
# a report:
#   tools/demo.sh                 real English text (Debian's dict-gcide, the GNU Collaborative International Dictionary)
#   tools/demo.sh TEXT_FILE       any text file of at least 400 kB, in paragraphs
# Ends with a report. Writes only under build/; a second run starts over. About ten minutes on 2 cores, installation
# included.
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
  if [[ $size -lt 400000 ]]; then
    echo "demo.sh: '$text' has $size bytes, too few to train and validate on: give a file of at least 400000" >&2
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
# A document ends where an unindented line follows an empty one: a dictionary entry, or a paragraph. Byte 30, ASCII's
# record separator, marks the ends. Runs of 20 documents from all over the text are held out: one in 25, more of a
# short text, so that the evaluations find their windows.
every=$(awk -v size="$(stat -c %s "$text")" 'BEGIN { n = int(size / 200000); print (n < 2 ? 2 : n > 25 ? 25 : n) }')
LC_ALL=C awk -v every="$every" -v train="$demo/train.txt" -v val="$demo/val.txt" '
  BEGIN { out = train }
  blank && /^[^ \t]/ { printf "\036" > out; ++documents; out = int(documents / 20) % every == every - 1 ? val : train }
  { print > out; blank = /^[ \t\r]*$/ }' "$text"
[[ -s "$demo/val.txt" ]] || { echo "demo.sh: '$text' has no paragraphs (empty lines) to cut it at" >&2; exit 2; }
$bin/depthroute-tokenize "$demo/train.txt" --output "$demo/shards" --val-fraction 0
$bin/depthroute-tokenize "$demo/val.txt" --output "$demo/shards" --name held_out --val-fraction 0

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

step "judge claims written down beforehand, on documents not looked at so far"
$bin/depthroute-eval configs/eval-demo-claims.yaml

step "wrap the plain model in the recency schedule and ablate that with the same cells"
$bin/depthroute-eval configs/eval-wrapped-demo.yaml

step "analyse, and write the report"
results=("$demo/attnres.h5" "$demo/attnres-claims.h5" "$demo/plain.h5")
python=/usr/bin/python3  # which has the distribution's numpy, scipy, h5py and matplotlib
$python tools/analyze.py "${results[@]}" --output "$demo/analysis.h5"
$python tools/report.py "${results[@]}" --analysis "$demo/analysis.h5" --output "$demo/report.html"

step "done"
cat <<TXT
Block AttnRes model    $demo/attnres/checkpoints/latest/model     (metrics: $demo/attnres/metrics.jsonl)
plain model            $demo/plain/checkpoints/latest/model       (metrics: $demo/plain/metrics.jsonl)
ablations, AttnRes     $demo/attnres.h5, claims $demo/attnres-claims.h5
ablations, wrapped     $demo/plain.h5
statistics over them   $demo/analysis.h5
report                 $demo/report.html                          (open it in a browser)
TXT
