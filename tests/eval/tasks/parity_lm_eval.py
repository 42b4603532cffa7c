#!/usr/bin/env python3
"""Compares depthroute-eval on tasks with the EleutherAI harness on the same model, request by request:

    parity_lm_eval.py build/release/bin/depthroute-eval [--golden FOLDER]

Needs lm_eval 0.4 with its extra 'hf', and nothing from the network: a small Qwen3 is trained for some seconds on made-up text, with a BPE
tokenizer of its own, and tasks in the formats of LAMBADA, HellaSwag and WikiText are made of the same text. Contexts
are longer than the model's length, pages take several windows. `--golden` also writes what the everyday test
(test_tasks_program.cpp) compares with: the model, the request files and the harness's results."""
import argparse
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TRANSFORMERS_OFFLINE="1",
                  TOKENIZERS_PARALLELISM="false", HF_DATASETS_CACHE=tempfile.mkdtemp())
import h5py
import numpy as np
import tokenizers
import torch
import transformers
from lm_eval import evaluator

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools"))
from task_requests import harness  # noqa: E402

MAX_LENGTH, TOLERANCE = 24, 1e-4
END = "<|endoftext|>"
TASKS = ("lambada_openai", "hellaswag", "wikitext")


class Text:
    """Sentences in which the last word follows from the first ones."""
    SUBJECTS = ["the cat", "a dog", "the old man", "my sister", "the café owner", "our naïve king"]
    PLACES = ["garden", "kitchen", "river", "forest", "market", "straße"]

    def __init__(self, seed):
        self.random = random.Random(seed)

    def sentence(self):
        subject, place = self.random.randrange(6), self.random.randrange(6)
        return (f"{self.SUBJECTS[subject]} went to the {self.PLACES[place]} and then {self.SUBJECTS[subject]}"
                f" left the {self.PLACES[place]}")

    def passage(self, sentences):
        return " . ".join(self.sentence() for _ in range(sentences))

    def lambada(self):
        return {"text": self.passage(self.random.choice([1, 1, 2, 4]))}

    def hellaswag(self, index):
        sentence = self.sentence()
        begin, end = sentence.split(" and then ")
        endings = [end, end + " [step] at once", self.random.choice(self.PLACES), "left the " + END[2:5] + " é ü."]
        label = self.random.randrange(4)
        endings[0], endings[label] = endings[label], endings[0]
        return {"ind": index, "activity_label": self.random.choice(["Walking", "Going home"]), "ctx_a": begin + ".",
                "ctx_b": "then" if index % 3 else "", "endings": endings, "label": str(label)}

    def page(self, sentences):
        return {"page": f" = {self.random.choice(self.PLACES)} = \n \n {self.passage(sentences)} , @-@ \n"}


def write_lines(path, objects):
    path.write_text("".join(json.dumps(one) + "\n" for one in objects), encoding="utf-8")


def make_data(folder):
    text = Text(1)
    write_lines(folder / "lambada_openai.data", [text.lambada() for _ in range(40)])
    write_lines(folder / "hellaswag.data", [text.hellaswag(i) for i in range(24)])
    write_lines(folder / "wikitext.data", [text.page(n) for n in (1, 3, 7, 12)])


def make_tokenizer(folder):
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=330, special_tokens=[END], show_progress=False,
                                             initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator([Text(2).passage(300)], trainer)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=END)  # no bos, like Qwen's
    fast.save_pretrained(folder)
    return fast


def make_model(folder, tokenizer):
    torch.manual_seed(1)
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=24, num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=1,
        head_dim=8, intermediate_size=40, max_position_embeddings=MAX_LENGTH, tie_word_embeddings=True,
        rms_norm_eps=1e-6, rope_theta=10000.0)
    model = transformers.Qwen3ForCausalLM(config).float()
    ids = torch.tensor(tokenizer.encode(Text(3).passage(400)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(2)
    for _ in range(300):
        starts = torch.randint(len(ids) - MAX_LENGTH - 1, (8, ), generator=generator)
        batch = torch.stack([ids[start:start + MAX_LENGTH] for start in starts])
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"model: loss {loss.item():.3f} after 300 steps")
    model.eval().save_pretrained(folder)


def run(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def harness_results(folder, name):
    """Per request (log-likelihood, greedy or None), and the metrics, by the harness itself."""
    task = harness.load_task(name, str(folder / f"{name}.data"))
    model = harness.HFLM(pretrained=str(folder / "model"), device="cpu", dtype="float32", batch_size=3)
    assert model.max_length == MAX_LENGTH
    found = evaluator.evaluate(lm=model, task_dict={name: task}, log_samples=True, bootstrap_iters=0)
    samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
    requests = [response[0] for sample in samples for response in sample["resps"]]
    requests = [(one, None) if isinstance(one, float) else (float(one[0]), bool(one[1])) for one in requests]
    metrics = {key.split(",")[0]: value for key, value in found["results"][name].items()
               if isinstance(value, float) and "stderr" not in key}
    return requests, metrics


def our_results(program, folder, name):
    config = folder / f"{name}.yaml"
    config.write_text(f"output: {folder / name}.h5\ndevice: cpu\nmodel: {{from: {folder / 'model'}}}\n"
                      f"data: {{requests: {folder / name}.jsonl}}\nmicro_batch: 5\nstatistics: {{bootstrap: 200}}\n")
    print(run([program, config]))
    with h5py.File(folder / f"{name}.h5") as file:
        nll, hits = file["clean/nll_by_segment"][:], file["clean/hits_by_segment"][:]
        tokens, document = file["segment/tokens"][:], file["segment/document"][:]
        if name == "wikitext":
            requests = [(-nll[document == one].sum(), None) for one in np.unique(document)]
            assert np.bincount(document).max() > 3, "pages should take several windows"
        else:
            requests = [(-loss, bool(hit == count)) for loss, hit, count in zip(nll, hits, tokens)]
        if name != "wikitext":
            assert file["sequence/tokens_cut"][:].max() > 0, "contexts should be cut"
        metrics = {key.removeprefix("clean_"): float(value[()]) for key, value in file["task"].items()
                   if key.startswith("clean_") and value.shape == () and key.rsplit("_", 1)[-1] not in ("low", "high", "se")}
    return requests, metrics


def compare(name, theirs, ours):
    requests = list(zip(theirs[0], ours[0], strict=True))
    worst = max(abs(a[0] - b[0]) for a, b in requests)
    assert worst <= TOLERANCE, f"{name}: log-likelihoods differ by {worst}"
    assert all(a[1] == b[1] for a, b in requests), f"{name}: greedy decoding differs"
    for metric, value in theirs[1].items():
        close = np.isclose(value, ours[1][metric], rtol=1e-5, atol=0)
        assert close if "perplexity" in metric or metric == "bits_per_byte" else value == ours[1][metric], metric
    greedy = sum(bool(b[1]) for _, b in requests)
    print(f"{name}: {len(requests)} requests, largest difference {worst:.2g} nats, {greedy} greedy;",
          ", ".join(f"{metric} {value:.6g} = {ours[1][metric]:.6g}" for metric, value in theirs[1].items()))


def write_golden(folder, golden, results):
    golden.mkdir(parents=True, exist_ok=True)
    (golden / "model").mkdir(exist_ok=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copyfile(folder / "model" / name, golden / "model" / name)
    for name, (requests, metrics) in results.items():
        shutil.copyfile(folder / f"{name}.jsonl", golden / f"{name}.jsonl")
        expected = {"harness": harness.version(), "loglikelihoods": [one[0] for one in requests],
                    "greedy": [one[1] for one in requests], "metrics": metrics}
        lines = ",\n ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in expected.items())
        (golden / f"{name}.expected.json").write_text(f"{{{lines}}}\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--golden", type=pathlib.Path)
    parsed = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp())
    (folder / "model").mkdir()
    make_data(folder)
    make_model(folder / "model", make_tokenizer(folder / "model"))
    results = {}
    for name in TASKS:
        print(run([sys.executable, ROOT / "tools/make_requests.py", name, folder / f"{name}.data", "--tokenizer",
                   folder / "model", "-o", folder / f"{name}.jsonl"]), end="")
        results[name] = harness_results(folder, name)
        compare(name, results[name], our_results(parsed.program, folder, name))
    if parsed.golden:
        write_golden(folder, parsed.golden, results)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
