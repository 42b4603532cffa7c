#!/usr/bin/env bash
# The study: trains small models, measures what their routing does, judges claims that were written down beforehand, and writes what
# came of it. Killed anywhere, the same command goes on.
#   tools/study.sh                    three variants, three seeds; about three hours on 2 cores
#   tools/study.sh --quick            one seed, a fraction of the tokens and of the documents: that it runs, not what is true
#   tools/study.sh --folder FOLDER    where everything is written (default: build/study, or build/study-quick)
# Text: Debian's anarchism, linux-doc and python3-doc. Claims: configs/study/claims.yaml and judgement.yaml.
set -euo pipefail
cd "$(dirname "$0")/.."

quick=false folder=""
while [[ $# -gt 0 ]]; do
  case "$1" in
    --quick) quick=true ;;
    --folder)
      folder=${2:-}
      [[ -n $folder ]] || { echo "study.sh: --folder needs a folder" >&2; exit 2; }
      shift
      ;;
    *) echo "study.sh: unknown argument '$1' (there are --quick and --folder FOLDER)" >&2; exit 2 ;;
  esac
  shift
done
seeds=(1 2 3) steps=450 every=150 sequences="" grid_sequences="" text=()
# A rehearsal has documents of its own: what the study is to be judged on stays unread.
if $quick; then seeds=(1) steps=40 every=20 sequences=24 grid_sequences=24 text=(--rehearsal); fi
if [[ -z $folder ]]; then folder=build/study; $quick && folder=build/study-quick; fi
mkdir -p "$folder"
folder=$(realpath --relative-to=. "$folder")
bin=build/release/bin
python=/usr/bin/python3  # which has the distribution's numpy, scipy, h5py and matplotlib

began=$SECONDS
step() { printf '\n== [%4d s] %s\n' "$((SECONDS - began))" "$*"; }
# priced NAME COMMAND...: runs it and notes what it took. A part that was killed is noted, too, when it goes on: prices add up.
priced() {
  local name=$1 start=$SECONDS status=0
  shift
  "$@" || status=$?
  printf '%s\t%d\n' "$name" "$((SECONDS - start))" >>"$folder/seconds.tsv"
  return "$status"
}

step "install what is missing"
tools/setup.sh --study

step "build"
cmake --preset release >/dev/null
cmake --build --preset release -j "$(nproc)" --target depthroute-train depthroute-eval

step "text to tokens"
if [[ ! -f $folder/shards/val.bin ]]; then
  priced text tools/study/corpus.py --output "$folder/corpus.jsonl" "${text[@]}"
  priced tokens $python tools/tokenize_text.py "$folder/corpus.jsonl" --train-bpe 4096 --val-fraction 0.25 \
    --output "$folder/shards"
fi

# train VARIANT SEED
train() {
  local run=$folder/$1-$2
  $bin/depthroute-train configs/study/train.yaml --set seed="$2" --set model.residual.variant="$1" --set output="$run/run" \
    --set data.train="[$folder/shards/train*.bin]" --set data.val="[$folder/shards/val.bin]" \
    --set train.steps=$steps --set optimizer.warmup=$((steps / 10)) --set checkpoint.every=$every
}
# evaluate CONFIG MODEL OUTPUT [MORE...]; the results file is there when it is whole.
evaluate() {
  local config=$1 model=$2 output=$3
  shift 3
  [[ ! -f $output ]] || return 0
  priced "evaluate $config" $bin/depthroute-eval "configs/study/$config.yaml" --set model.from="$model" \
    --set data.shards="[$folder/shards/val.bin]" --set output="$output" "$@"
}
less=() grid_less=()
if [[ -n $sequences ]]; then less=(--set data.sequences="$sequences" --set splits.calibration_sequences=16); fi
if [[ -n $grid_sequences ]]; then grid_less=(--set data.sequences="$grid_sequences" --set splits.calibration_sequences=16); fi

for seed in "${seeds[@]}"; do
  for variant in cumulative kimi additive; do
    step "train $variant, seed $seed"
    priced "train $variant" train "$variant" "$seed"
  done
done

for seed in "${seeds[@]}"; do
  for variant in cumulative kimi; do
    run=$folder/$variant-$seed
    if [[ $seed == "${seeds[0]}" ]]; then
      step "explore $variant, seed $seed"
      evaluate exploration "$run/run" "$run/exploration.h5" "${grid_less[@]}"
    fi
    step "trajectory of $variant, seed $seed"
    for ((at = every; at < steps; at += every)); do
      evaluate grid "$run/run/checkpoints/$(printf 'step_%08d' "$at")" "$run/grid-$at.h5" "${grid_less[@]}"
    done
  done
done

for seed in "${seeds[@]}"; do
  for variant in cumulative kimi; do
    run=$folder/$variant-$seed
    step "judge the claims on $variant, seed $seed, and on its step 0"
    evaluate claims "$run/run" "$run/claims.h5" "${less[@]}"
    evaluate claims "$run/run/checkpoints/step_00000000" "$run/step-0.h5" "${less[@]}" --set data.sequences="${sequences:-64}"
  done
  run=$folder/additive-$seed
  for bias in 3 30; do
    step "judge them on the plain model, seed $seed, wrapped at $bias"
    evaluate claims "$run/run" "$run/wrapped-$bias.h5" "${less[@]}" --set data.sequences="${sequences:-64}" \
      --set model.wrap.recency_bias=$bias --set model.wrap.num_blocks=4
  done
done

step "analyse, judge, compute again, report"
claims=("$folder"/*/claims.h5 "$folder"/*/step-0.h5 "$folder"/*/wrapped-*.h5)
$python tools/analyze.py "${claims[@]}" --output "$folder/analysis.h5"
$python tools/analyze.py "$folder"/*/exploration.h5 "$folder"/*/grid-*.h5 --output "$folder/exploration.h5"
tools/study/judge.py "$folder" --judgement configs/study/judgement.yaml --seeds "$(IFS=,; echo "${seeds[*]}")" \
  --output "$folder/verdicts.json"
tools/study/recompute.py "$folder/verdicts.json"
$python tools/report.py "$folder"/*/claims.h5 "$folder"/*/wrapped-3.h5 --analysis "$folder/analysis.h5" --output "$folder/report.html"
tools/study/table.py "$folder/verdicts.json" --seconds "$folder/seconds.tsv" --output "$folder/table.md"

step "done"
cat <<TXT
verdicts     $folder/verdicts.json
table        $folder/table.md
statistics   $folder/analysis.h5, $folder/exploration.h5 (trajectories, edges: not judged)
report       $folder/report.html
TXT
