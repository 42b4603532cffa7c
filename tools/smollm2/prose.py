"""Prints English prose as JSON lines {"text": ...}: the pages of Debian's package anarchism, by tools/study/corpus.py."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "study"))
import corpus  # noqa: E402

pages = [text for name, text in sorted(corpus.documents("/")) if name.startswith("anarchism/") and len(text) >= corpus.SHORTEST]
if not pages:
    print("prose.py: no pages of the Debian package anarchism: install it (tools/setup.sh --study does)", file=sys.stderr)
    sys.exit(2)
for text in pages:
    print(json.dumps({"text": text}))
