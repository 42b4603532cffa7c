// depthroute-eval on documents: splits, contents that replace sources, cells measured once for several, every
// token of chosen cells, and a file that xarray reads as README.md says.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "data/files.h"
#include "eval/results/hdf5.h"
#include "eval/results/unit_store.h"
#include "tests/eval/eval_program.h"
#include "tests/support/megatron_dataset.h"
#include "tests/support/paths.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;

/// 3000 tokens in documents of about 20, which token 5 ends.
class EvalSamples : public EvalProgram {
 protected:
  EvalSamples() { write_shard(folder_ / "val.bin", random_tokens(3000, 20)); }

  std::string text(const std::string& cells, const std::string& data = "",
                   const std::string& rest = "") const {
    return "output: " + results() + "\nmodel: {from: " + golden_folder("cumulative") + "}\ndata: {shards: [" +
           (folder_ / "val.bin") + "], seq_len: 9, sequences: 40, separator: 5, split: exploration" + data +
           "}\nsplits: {calibration_sequences: 20}\nmicro_batch: 10\nstatistics: {bootstrap: 200}\n" + rest +
           cells;
  }
};

const char* const kSampleGrid =
    "grids:\n"
    "  - {families: [embedding, older, recent, current], sublayers: [attn, mlp], bands: [early, mid, late],\n"
    "     interventions: [mask]}\n"
    "  - {families: [embedding, current], sublayers: [mlp], bands: [late], interventions: [mean, resample]}\n"
    "  - {edges: all, sublayers: [mlp], layers: [4], interventions: [mask]}\n";

TEST_F(EvalSamples, EverythingOfTheFileFitsTogether) {
  const std::string cells = std::string(kSampleGrid) +
                            "cells:\n"
                            "  - {name: again, sources: [embedding], bands: [late], sublayers: [mlp], "
                            "intervention: mask, per_token: true}\n"
                            "  - {name: both, union: [mask/embedding/mlp/late, mask/current/mlp/mid]}\n"
                            "  - {name: held, sublayers: [attn, mlp], intervention: freeze}\n";
  const Ran ran = run(text(cells, "", "routing: {weights: all, edge_estimates: true}\n"));
  ASSERT_EQ(ran.status, 0) << ran.err;
  const Hdf5Reader file(results());
  const auto names = file.strings("/cell/cell"), same = file.strings("/cell/same_as"),
             hashes = file.strings("/cell/hash");
  const auto at = [&](const std::string& name) {
    return static_cast<size_t>(std::find(names.begin(), names.end(), name) - names.begin());
  };
  const auto delta = file.doubles("/cell/delta_nll");
  ASSERT_LT(at("again"), names.size());
  EXPECT_EQ(same[at("again")], "mask/embedding/mlp/late");
  EXPECT_EQ(hashes[at("again")], hashes[at("mask/embedding/mlp/late")]);
  EXPECT_EQ(delta[at("again")], delta[at("mask/embedding/mlp/late")]);

  // Every equal pair of interventions was measured once.
  std::set<std::string> distinct;
  for (const std::string& hash : hashes)
    if (!hash.empty()) distinct.insert(hash);
  std::set<std::string> measured;
  for (const auto& entry : fs::recursive_directory_iterator(units_folder(results())))
    if (entry.path().extension() == ".h5")
      for (const std::string& hash : Hdf5Reader(entry.path()).strings("/cell/comparison"))
        measured.insert(hash);
  EXPECT_EQ(measured.size(), distinct.size() + file.strings("/known_answer/known_answer").size());

  // Tokens add up to segments, and segments to the whole.
  const auto tokens = file.doubles("/token_effect/delta_nll");
  double sum = 0;
  for (const double change : tokens)
    if (!std::isnan(change)) sum += change;
  const double counted = static_cast<double>(file.integer_attribute("/", "tokens_evaluated"));
  EXPECT_NEAR(sum / counted, delta[at("again")], 1e-6);
  const auto documents = file.integers("/segment/document"), sequences = file.integers("/segment/sequence");
  EXPECT_EQ(std::set<int64_t>(documents.begin(), documents.end()).size(),
            static_cast<size_t>(file.integer_attribute("/", "documents")));
  EXPECT_GT(documents.size(), 40u);
  EXPECT_EQ(sequences.back(), 39);

  // Donors differ from one another, a mean does not.
  const auto spread = file.doubles("/cell/delta_nll_donor_std");
  EXPECT_GT(spread[at("resample/embedding/mlp/late")], 0.0);
  EXPECT_TRUE(std::isnan(spread[at("mean/embedding/mlp/late")]));
  EXPECT_NE(delta[at("mean/embedding/mlp/late")], delta[at("mask/embedding/mlp/late")]);

  // In `cumulative` every source holds the embedding: its factor is 1, masked or not.
  const std::vector<int64_t> shape = file.shape("/cell_routing/coefficient");
  const auto coefficient = file.doubles("/cell_routing/coefficient");
  for (int64_t site = 0; site < shape[1]; ++site)
    EXPECT_NEAR(coefficient[(static_cast<int64_t>(at("again")) * shape[1] + site) * shape[2]], 1.0, 1e-5);
  // A cell that sets all weights of its sites has no sources, and so no mass.
  const auto mass = file.doubles("/cell/mass");
  EXPECT_TRUE(std::isnan(mass[at("held")]));
  EXPECT_FALSE(std::isnan(mass[at("both")]));
  EXPECT_EQ(file.shape("/routing/edge_estimate_by_segment")[0], static_cast<int64_t>(documents.size()));
  const auto known = file.strings("/known_answer/known_answer");
  const auto passed = file.integers("/known_answer/passed");
  for (size_t i = 0; i < known.size(); ++i) EXPECT_NE(passed[i], 0) << known[i];
}

// The same tokens as a Megatron-LM dataset, whose index ends documents where the separator does.
TEST_F(EvalSamples, DocumentsOfAnIndexGiveTheNumbersOfASeparator) {
  MegatronDataset dataset(8);
  std::vector<int64_t> document;
  const std::vector<int32_t> tokens = random_tokens(3000, 20);
  for (size_t i = 0; i < tokens.size(); ++i) {
    document.push_back(tokens[i]);
    if (tokens[i] != 5 && i + 1 < tokens.size()) continue;
    dataset.document({document});
    document.clear();
  }
  const std::string index = dataset.write(folder_ / "indexed");
  const std::string grid =
      "grids:\n  - {families: [current], sublayers: [mlp], bands: [late], interventions: [mask, mean, resample]}\n";
  for (const char* choose : {"shuffled", "documents"}) {
    const std::string chosen = std::string("--replace --set data.choose=") + choose;
    const auto read = [&](const std::string& arguments, const std::string& from) {
      const Ran ran = run(text(grid), chosen + arguments);
      EXPECT_EQ(ran.status, 0) << ran.err;
      const Hdf5Reader file(results());
      EXPECT_EQ(file.string_attribute("/", "documents_from"), from);
      return std::pair(file.integers("/segment/document"), file.doubles("/cell/delta_nll"));
    };
    const auto [documents, effects] = read("", "separator");
    const std::string as_index = " --set data.separator=null --set 'data.shards=[" + index + "]'";
    const auto [indexed_documents, indexed_effects] = read(as_index, "shards");
    EXPECT_EQ(indexed_documents, documents) << choose;
    EXPECT_EQ(indexed_effects, effects) << choose;
  }
  const Ran refused = run(text(grid, ", choose: documents"), "--replace --set data.separator=null");
  EXPECT_EQ(refused.status, 2);
  EXPECT_TRUE(has(refused.err, "data.choose: documents needs data.separator")) << refused.err;
}

TEST_F(EvalSamples, XarrayReadsItAsTheReadmeSays) {
  if (std::system("/usr/bin/python3 -c 'import xarray, netCDF4, h5netcdf' >/dev/null 2>&1") != 0)
    GTEST_SKIP() << "python3 has no xarray with netCDF4 and h5netcdf (tools/setup.sh installs them)";
  const Ran ran = run(text(kSampleGrid, "", "routing: {weights: all}\n"));
  ASSERT_EQ(ran.status, 0) << ran.err;
  const std::string command = "/usr/bin/python3 " + test_paths::source() +
                              "/tests/eval/results/check_xarray.py " + results() + " " +
                              test_paths::source() + "/README.md >" + (folder_ / "out") + " 2>&1";
  EXPECT_EQ(std::system(command.c_str()), 0) << read_file(folder_ / "out");
}

TEST_F(EvalSamples, ClaimsAreAboutCellsThatAreMeasured) {
  const auto claim = [](const std::string& cell, const std::string& more = "") {
    return std::string(kSampleGrid) + "claims:\n  - {name: c, cell: " + cell + more + "}\n";
  };
  expect_refused(text(claim("mask/embeding/mlp/late")),
                 "claim 'c': there is no cell 'mask/embeding/mlp/late'");
  expect_refused(text(claim("mask/current/mlp/late", ", exceeds: mask/older/mlp/early")),
                 "claim 'c': cell 'mask/older/mlp/early' changes no site");
  ASSERT_EQ(
      run(text(claim("mask/current/mlp/late", ", exceeds: mask/embedding/mlp/late, margin: 0.5"))).status, 0);
  const Hdf5Reader file(results());
  EXPECT_EQ(file.strings("/claim/claim"), std::vector<std::string>{"c"});
  EXPECT_EQ(file.strings("/claim/exceeds"), std::vector<std::string>{"mask/embedding/mlp/late"});
  EXPECT_EQ(file.doubles("/claim/margin"), std::vector<double>{0.5});
}

TEST_F(EvalSamples, SplitsShareNoDocument) {
  const std::string grid =
      "grids:\n  - {families: [current], sublayers: [mlp], bands: [late], interventions: [mask]}\n";
  std::set<int64_t> seen;
  size_t count = 0;
  for (const char* split : {"calibration", "exploration", "confirmation"}) {
    ASSERT_EQ(
        run(text(grid), std::string("--replace --set data.sequences=20 --set data.split=") + split).status,
        0);
    const Hdf5Reader file(results());
    const auto documents = file.integers("/segment/document");
    const std::set<int64_t> own(documents.begin(), documents.end());
    count += own.size();
    seen.insert(own.begin(), own.end());
    EXPECT_EQ(file.strings("/segment/split").front(), split);
  }
  EXPECT_EQ(seen.size(), count);
}

// With the manifest that the tokenizer leaves, data.separator need not be given, and cannot be given wrongly.
TEST_F(EvalSamples, TheManifestNamesSeparatorAndTokenizer) {
  const auto config = [&](const std::string& data) {
    return "output: " + results() + "\nmodel: {from: " + golden_folder("cumulative") + "}\ndata: {shards: [" +
           (folder_ / "val.bin") + "], seq_len: 9, sequences: 7" + data + "}\nstatistics: {bootstrap: 200}\n";
  };
  const auto measure = [&](const std::string& data) {
    fs::remove(results());
    fs::remove_all(results() + ".units");
    const Ran ran = run(config(data));
    EXPECT_EQ(ran.status, 0) << ran.err;
    return Hdf5Reader(results()).string_attribute("/", "config_hash");
  };
  expect_refused(config(", choose: documents"), "data.choose: documents needs data.separator");
  const std::string given = measure(", choose: documents, separator: 5");
  EXPECT_EQ(Hdf5Reader(results()).string_attribute("/", "tokenizer"), "");
  fs::remove(results());
  fs::remove_all(results() + ".units");

  ShardManifest manifest{.name = "set", .vocab_size = 97, .token_bytes = 2};
  manifest.tokenizer = TokenizerIdentity{"small", "0123", "tokenizer.json"};
  manifest.separator = 5;
  manifest.files = {{"val.bin", 3000, hash_file(folder_ / "val.bin")}};
  write_shard_manifest(folder_.path(), manifest);
  const Ran refused = run(config(", separator: 6"));
  EXPECT_EQ(refused.status, 2);
  EXPECT_NE(refused.err.find("data.separator is 6, but " + folder_ / "set.shards.json names 5"),
            std::string::npos)
      << refused.err;
  EXPECT_FALSE(exists(results()));
  EXPECT_EQ(measure(", choose: documents"), given);  // the effective configuration
  EXPECT_EQ(measure(", choose: documents, separator: 5"), given);
  const Hdf5Reader file(results());
  EXPECT_EQ(file.string_attribute("/", "tokenizer"), "small");
  EXPECT_EQ(file.string_attribute("/", "tokenizer_checksum"), "0123");
  EXPECT_NE(file.string_attribute("/", "config").find("separator: 5"), std::string::npos);

  fs::remove(results());
  fs::remove_all(results() + ".units");
  manifest.files[0].checksum[0] ^= 1;
  write_shard_manifest(folder_.path(), manifest);
  const Ran changed = run(config(""));
  EXPECT_EQ(changed.status, 2);
  EXPECT_NE(changed.err.find("val.bin: its checksum is"), std::string::npos) << changed.err;
  EXPECT_FALSE(exists(results()));
}

}  // namespace
}  // namespace depthroute
