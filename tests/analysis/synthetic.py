"""Writes results files of schema_version 2 with made-up numbers and known answers, for tests of tools/ that
read them.

    synthetic.write("run.h5", seed=1, checkpoint_step=2000, split="confirmation")

By hand: python3 tests/analysis/synthetic.py FOLDER writes a trained model (three seeds, three steps), step 0,
wrapped ones. """
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from analysis.writer import NewFile  # noqa: E402
import synthetic_cells  # noqa: E402
import synthetic_groups as groups  # noqa: E402
import synthetic_numbers as numbers  # noqa: E402
from synthetic_plan import Plan, make_cells  # noqa: E402

DEFAULTS = dict(variant="cumulative", layers=6, blocks=3, seq_len=64, documents=240, separated=True, seed=1,
                data_seed=1, checkpoint_step=2000, split="exploration", wrapped=None,
                grids=("mask", "mean", "resample"), edges=True, more=True, effect_scale=1.0, skew=0.5,
                estimates=True, unigram_entropy=5.5, answers_pass=True, checksum_after=None, claims=None,
                run="demo", sums=None, edge_effects=None, cells=None)
CLAIMS = [
    dict(name="older-late-attn", cell="mask/older/attn/late", exceeds="mask/recent/attn/late", margin=0.005),
    dict(name="embedding-early-mlp", cell="mask/embedding/mlp/early", margin=0.1),
    dict(name="recent-mid-mlp", cell="mask/recent/mlp/mid", exceeds="mask/embedding/mlp/mid", measure="kl"),
    dict(name="older-early-attn", cell="mask/older/attn/early")
]


class Numbers:
    """Everything a file holds, before it is written. Tests may change it."""

    def __init__(self, **options):
        unknown = set(options) - set(DEFAULTS)
        assert not unknown, f"no such option of the synthetic file: {unknown}"
        self.__dict__.update({**DEFAULTS, **options})
        self.plan = Plan(self.variant, self.layers, self.blocks)
        self.segment = numbers.layout(self.documents, self.seq_len, self.data_seed, self.separated)
        self.tokens = self.segment["tokens"]
        if self.cells is None:
            self.cells = [] if self.variant == "additive" else make_cells(self.plan, self.grids, self.edges,
                                                                          self.more)
        self.weight = numbers.weights(self.plan, self.segment, self.seed, self.wrapped)
        if self.edge_effects is None:
            self.edge_effects = numbers.edge_effects(self.plan, self.seed)
        self.sums_by, self.clean_hits = numbers.outcomes(self.cells, self.segment, self.edge_effects,
                                                         self.seed, self.effect_scale, self.skew)
        for cell_name, of_measure in (self.sums or {}).items():
            for measure, values in of_measure.items():
                self.sums_by[measure][[cell.name for cell in self.cells].index(cell_name)] = values
        self.nll, self.hit = numbers.clean_nll(self.segment, self.seq_len, self.clean_hits, self.seed)
        self.nll_by_segment = np.array([
            np.sum(self.nll[sequence, first:first + tokens], dtype=float) for sequence, first, tokens in zip(
                self.segment["sequence"], self.segment["first_token"], self.tokens)
        ])
        if self.claims is None:
            self.claims = CLAIMS if self.cells and "mask" in self.grids else []


def root_attributes(file):
    checksum = f"{0xabc000 + 17 * file.seed + file.checkpoint_step:032x}"
    wrap = ""
    if file.wrapped is not None:
        wrap = f"\n  wrap: {{recency_bias: {file.wrapped}, num_blocks: {file.blocks}}}"
    step = f"runs/{file.run}-{file.seed}/checkpoints/step_{file.checkpoint_step:08d}"
    return dict(Conventions="CF-1.10", title="Causal routing ablations", source="depthroute-eval, synthetic",
                history="written by a test", schema_version=2, created="2000-01-01T00:00:00Z",
                program_version="0.0.0", git_commit="unknown", command_line="depthroute-eval synthetic.yaml",
                config=f"output: results.h5\nmodel:\n  from: {step}{wrap}\n",
                measurement_hash=f"{hash_of(file, 'measurement')}", analysis_hash=hash_of(file, "analysis"),
                claims_hash=hash_of(file, "claims"), checkpoint=step, checkpoint_checksum=checksum,
                checkpoint_step=file.checkpoint_step, variant=file.variant, num_layers=file.layers,
                num_blocks=file.blocks, sublayers_per_block=file.plan.per_block,
                wrapped=int(file.wrapped is not None), data=["shards/val.bin"
                                                             ], data_checksums=["00" * 16], choose="shuffled",
                split=file.split, separator=np.array([0] if file.separated else [], np.int64),
                documents_from="separator" if file.separated else "none", documents=len(
                    np.unique(file.segment["document"])), sequences=int(file.segment["sequence"].max() + 1),
                tokens_evaluated=int(file.tokens.sum()), seq_len=file.seq_len, seed=file.data_seed,
                device="cpu", precision="fp32", unigram_entropy=file.unigram_entropy, confidence_level=0.95,
                bootstrap=10000, alpha=0.05, margin=0.01, statistics_seed=1)


def hash_of(file, what):
    import hashlib
    key = [
        what, file.variant, file.seed, file.data_seed, file.checkpoint_step, file.split, file.wrapped,
        file.documents
    ]
    return hashlib.sha256(repr(key).encode()).hexdigest()[:32]


def write(path, **options):
    """Writes one results file; options as in DEFAULTS. Returns the Numbers it holds."""
    file = Numbers(**options)
    with NewFile(path) as root:
        root.attributes(**root_attributes(file))
        for write_group in (groups.site, groups.routing, groups.sequences, groups.clean,
                            groups.known_answers):
            write_group(root, file)
        if file.cells:
            synthetic_cells.cell(root, file)
            synthetic_cells.grid(root, file)
            synthetic_cells.plan(root, file)
            synthetic_cells.cell_routing(root, file)
            synthetic_cells.token_effect(root, file)
        if file.claims:
            groups.claims(root, file)
    return file


def main(folder):
    os.makedirs(folder, exist_ok=True)
    for seed in (1, 2, 3):
        for step in (1000, 2000, 4000):
            scale = {1000: 0.3, 2000: 0.8, 4000: 1.0}[step]
            write(f"{folder}/seed{seed}-step{step}.h5", seed=seed, checkpoint_step=step, effect_scale=scale)
        write(f"{folder}/seed{seed}-confirmation.h5", seed=seed, checkpoint_step=4000, split="confirmation",
              data_seed=2)
    write(f"{folder}/untrained.h5", seed=1, checkpoint_step=0, effect_scale=1e-3, estimates=False)
    for bias in (3.0, 30.0):
        write(f"{folder}/wrapped-b{bias:g}.h5", wrapped=bias, checkpoint_step=-1, grids=("mask", ),
              run="plain")
    write(f"{folder}/plain.h5", variant="additive", checkpoint_step=-1, run="plain")


if __name__ == "__main__":
    main(sys.argv[1])
