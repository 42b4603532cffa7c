"""The mean nll of a shard's first windows under transformers, in float64: what tools/smollm2/check.py compares with. By hand; needs
torch and transformers.

    against_transformers.py MODEL_FOLDER SHARD.bin --seq-len 512 --sequences 4
"""
import argparse

import numpy as np
import torch
import transformers

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model")
parser.add_argument("shard")
parser.add_argument("--seq-len", type=int, default=512)
parser.add_argument("--sequences", type=int, default=4)
options = parser.parse_args()

with open(options.shard, "rb") as file:
    data = file.read()
header = np.frombuffer(data[:1024], "<i4")
tokens = np.frombuffer(data[1024:], {1: "<u2", 7: "<u4"}[int(header[1])]).astype(np.int64)
length = options.seq_len
windows = np.stack([tokens[i * length:(i + 1) * length + 1] for i in range(options.sequences)])
model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float64, attn_implementation="eager")
total = 0.0
with torch.no_grad():
    for window in torch.as_tensor(windows):
        logits = model(window[None, :-1]).logits[0]
        total += float(torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum"))
print(f"{type(model).__name__}, transformers {transformers.__version__}: nll {total / windows[:, 1:].size:.9f} over "
      f"{windows[:, 1:].size} tokens")
