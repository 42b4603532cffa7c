#!/usr/bin/env bash
# The study: trains small models, measures what their routing does, judges claims that were written down beforehand, and writes what
# came of it. Killed anywhere, the same command goes on.
#   tools/study.sh                    three variants, three seeds; about two hours on 2 cores
#   tools/study.sh --quick            one seed, a fraction of the tokens and of the documents: that it runs, not what is true
#   tools/study.sh --folder FOLDER    where everything is written (default: build/study, or build/study-quick)
#   tools/study.sh --smollm2          also a pretrained model, wrapped (tools/wrapped_smollm2.sh): needs the network once
#   tools/study.sh --bin FOLDER       built programs to use, instead of installing and building
# Trains and measures as many models at a time as there are processors, each by one thread: the numbers do not depend on how many.
# Text: Debian's anarchism, linux-doc and python3-doc. Claims: configs/study/claims.yaml and judgement.yaml.
set -euo pipefail
cd "$(dirname "$0")/.."

quick=false smollm2=false folder="" bin=""
while [[ $# -gt 0 ]]; do
  case "$1" in
    --quick) quick=true ;;
    --smollm2) smollm2=true ;;
    --folder | --bin)
      [[ -n ${2:-} ]] || { echo "study.sh: $1 needs a folder" >&2; exit 2; }
      if [[ $1 == --bin ]]; then bin=$2; else folder=$2; fi
      shift
      ;;
    *) echo "study.sh: unknown argument '$1' (there are --quick, --smollm2, --folder FOLDER and --bin FOLDER)" >&2; exit 2 ;;
  esac
  shift
done
seeds=(1 2 3) steps=1440 every=480 text=() judged=() explored=() along=()
compared=(data.sequences=48)  # untrained and wrapped models: what is expected there is large, or 0
# A rehearsal has documents of its own: what the study is to be judged on stays unread.
if $quick; then
  seeds=(1) steps=80 every=40 text=(--rehearsal)
  judged=(data.sequences=24 splits.calibration_sequences=16)
  compared=("${judged[@]}") explored=("${judged[@]}")
  along=(data.sequences=20 splits.calibration_sequences=16)  # not the exploration's: the last checkpoint is in both
fi
if [[ -z $folder ]]; then folder=build/study; $quick && folder=build/study-quick; fi
mkdir -p "$folder/logs"
folder=$(realpath --relative-to=. "$folder")
[[ $folder != *[[:space:]:\$]* ]] || { echo "study.sh: $folder: a folder without spaces, colons and dollars, please" >&2; exit 2; }
python=/usr/bin/python3  # which has the distribution's numpy, scipy, h5py and matplotlib

began=$SECONDS
step() { printf '\n== [%4d s] %s\n' "$((SECONDS - began))" "$*"; }

if [[ -z $bin ]]; then
  step "install what is missing, build"
  tools/setup.sh --study
  cmake --preset release >/dev/null
  cmake --build --preset release -j "$(nproc)" --target depthroute-train depthroute-eval
  bin=build/release/bin
fi

# What is made of what: a build file for ninja, which runs what is missing, in this order where nothing else decides.
shards=$folder/shards/val.bin
# to_make OUTPUT NAME NEEDED COMMAND...: NAME is what the price is noted under.
to_make() {
  local output=$1 name=$2 needed=$3 log=${1#"$folder"/}
  shift 3
  printf 'build %s: run || %s\n  what = %s\n  log = %s\n  command_line =%s\n' "$output" "$needed" "$name" \
    "$folder/logs/${log//\//-}.log" "$(printf ' %q' "$@")"
}
# evaluate CONFIG MODEL OUTPUT TRAINED [KEY=VALUE...]
evaluate() {
  local config=$1 model=$2 output=$3 trained=$4 settings=() setting
  shift 4
  for setting in "$@"; do settings+=(--set "$setting"); done
  to_make "$output" "evaluate $config" "$trained" $bin/depthroute-eval "configs/study/$config.yaml" --set "model.from=$model" \
    --set "data.shards=[$shards]" --set "output=$output" "${settings[@]}"
}
describe() {
  local seed variant run at bias
  cat <<'NINJA'
rule run
  command = began=$$(date +%s); $command_line >$log 2>&1; status=$$?; $
    printf '%s\t%d\n' '$what' $$(($$(date +%s) - began)) >>$seconds; $
    if [ $$status = 0 ]; then touch $out; else tail -n 3 $log; fi; exit $$status
  description = $out (its output: $log)
NINJA
  printf 'builddir = %s\nseconds = %s\n' "$folder" "$folder/seconds.tsv"
  to_make "$folder/corpus.jsonl" text "" tools/study/corpus.py --output "$folder/corpus.jsonl" "${text[@]}"
  to_make "$shards" tokens "$folder/corpus.jsonl" $python tools/tokenize_text.py "$folder/corpus.jsonl" --train-bpe 4096 \
    --val-fraction 0.25 --output "$folder/shards"
  for seed in "${seeds[@]}"; do
    for variant in cumulative kimi additive; do
      run=$folder/$variant-$seed
      to_make "$run/trained" "train $variant" "$shards" $bin/depthroute-train configs/study/train.yaml --set "seed=$seed" \
        --set "model.residual.variant=$variant" --set "output=$run/run" --set "data.train=[$folder/shards/train*.bin]" \
        --set "data.val=[$shards]" --set train.steps=$steps --set optimizer.warmup=$((steps / 10)) \
        --set checkpoint.every=$every
    done
  done
  for seed in "${seeds[@]}"; do
    for variant in cumulative kimi; do
      run=$folder/$variant-$seed
      evaluate claims "$run/run" "$run/claims.h5" "$run/trained" "${judged[@]}"
      evaluate claims "$run/run/checkpoints/step_00000000" "$run/step-0.h5" "$run/trained" "${compared[@]}"
    done
    run=$folder/additive-$seed
    for bias in 3 30; do
      evaluate claims "$run/run" "$run/wrapped-$bias.h5" "$run/trained" "${compared[@]}" \
        model.wrap.recency_bias=$bias model.wrap.num_blocks=4
    done
  done
  for variant in cumulative kimi; do
    run=$folder/$variant-${seeds[0]}
    evaluate exploration "$run/run" "$run/exploration.h5" "$run/trained" "${explored[@]}"
  done
  for seed in "${seeds[@]}"; do
    for variant in cumulative kimi; do
      run=$folder/$variant-$seed
      for ((at = 0; at <= steps; at += every)); do
        evaluate grid "$run/run/checkpoints/$(printf 'step_%08d' "$at")" "$run/grid-$at.h5" "$run/trained" "${along[@]}"
      done
    done
  done
}

step "text, models, measurements"
describe >"$folder/build.ninja"
NINJA_STATUS="[%f of %t, %es, %p] " OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 ninja -f "$folder/build.ninja" -j "$(nproc)"

also=(--also "$folder/exploration.h5")
if $smollm2; then
  if [[ ! -f $folder/smollm2/analysis.h5 ]]; then
    smollm2_began=$SECONDS
    tools/wrapped_smollm2.sh --folder "$folder/smollm2" --bin "$bin"
    printf 'SmolLM2\t%d\n' "$((SECONDS - smollm2_began))" >>"$folder/seconds.tsv"
  fi
  also+=(--also "$folder/smollm2/analysis.h5")
fi

step "analyse, judge, compute again, report"
claims=("$folder"/*/claims.h5 "$folder"/*/step-0.h5 "$folder"/additive-*/wrapped-*.h5)
$python tools/analyze.py "${claims[@]}" --output "$folder/analysis.h5"
$python tools/analyze.py "$folder"/*/exploration.h5 "$folder"/*/grid-*.h5 --output "$folder/exploration.h5"
tools/study/judge.py "$folder" --judgement configs/study/judgement.yaml --seeds "$(IFS=,; echo "${seeds[*]}")" \
  "${also[@]}" --output "$folder/verdicts.json"
tools/study/recompute.py "$folder/verdicts.json"
tools/study/table.py "$folder/verdicts.json" --seconds "$folder/seconds.tsv" --output "$folder/table.md"
tools/study/figure.py "$folder/verdicts.json" --output "$folder/claims.svg"
$python tools/report.py "${claims[@]}" --analysis "$folder/analysis.h5" --output "$folder/report.html" \
  --figures "$folder/figures"
$python tools/report.py "$folder"/*/exploration.h5 "$folder"/*/grid-*.h5 --analysis "$folder/exploration.h5" \
  --output "$folder/exploration.html"

step "done"
cat <<TXT
verdicts     $folder/verdicts.json
table        $folder/table.md, its figure $folder/claims.svg
statistics   $folder/analysis.h5, $folder/exploration.h5 (single edges, along training: not judged)
reports      $folder/report.html, $folder/exploration.html
TXT
