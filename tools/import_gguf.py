#!/usr/bin/env python3
"""Turns a GGUF file of a Llama or a dense Qwen3 into a Hugging Face model folder that depthroute and transformers read.
    python3 tools/import_gguf.py SmolLM2-135M-Instruct.Q4_1.gguf smollm2
    python3 tools/import_gguf.py model-f16.gguf model --dtype bfloat16

Writes config.json, generation_config.json, model.safetensors and, where the vocabulary is a byte-level BPE whose way of splitting
text is known, tokenizer.json and tokenizer_config.json. Quantised tensors are dequantised: the numbers are those of the file, not
those of the model it was made from. The folder appears when everything is in it.

What would change the model's numbers and is not known (experts, scaled RoPE, sliding windows, biases, any other key or tensor) is
refused by name. Exit status: 0; 2 bad input, one line says what; 1 anything else.
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import packages  # noqa: E402

for name in ("numpy", "gguf"):
    packages.require(name, "reading GGUF")

from importing import cli  # noqa: E402

if __name__ == "__main__":
    sys.exit(cli.main(sys.argv[1:], __doc__))
