// From a trained model to the page: two evaluations by depthroute-eval, an exploration and claims on the
// confirmation split, read by tools/analyze.py and tools/report.py. Each is tested in its own room against
// made-up input; here they read what the other really writes.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "configs/base/error.h"
#include "data/atomic_path.h"
#include "data/files.h"
#include "eval/results/hdf5.h"
#include "tests/support/paths.h"
#include "tests/support/program.h"
#include "tests/support/temp_folder.h"

namespace depthroute {
namespace {

using testing_support::Result;
using testing_support::run_program_to_end;

constexpr const char* kPython = "/usr/bin/python3";

class Report : public testing::Test {
 protected:
  void run(const std::string& program, const std::vector<std::string>& arguments) {
    const Result result = run_program_to_end(program, arguments, folder_.path());
    ASSERT_EQ(result.status, 0) << program << ": " << result.err << result.out;
  }
  void python(const std::string& tool, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"-B", test_paths::source() + "/tools/" + tool});
    run(kPython, arguments);
  }

  void train() {
    std::vector<std::string> texts;
    for (const char* name : {"LICENSE", "README.md", "train/model/SPEC.md", "eval/SPEC.md"})
      texts.push_back(test_paths::source() + "/" + name);
    texts.insert(texts.end(), {"--output", folder_ / "shards", "--val-fraction", "0.5"});
    run("depthroute-tokenize", texts);
    write_file_atomically(
        folder_ / "train.yaml",
        fmt::format(
            "output: {0}/run\ndevice: cpu\n"
            "model: {{vocab_size: 256, hidden_size: 32, num_layers: 4, num_heads: 2, num_kv_heads: 1,\n"
            "        head_dim: 16, intermediate_size: 64, rope_theta: 10000,\n"
            "        residual: {{variant: cumulative, num_blocks: 2}}}}\n"
            "data: {{train: [{0}/shards/train.bin], val: [{0}/shards/val.bin], seq_len: 32}}\n"
            "train: {{steps: 60, global_batch: 8, micro_batch: 8}}\n"
            "optimizer: {{lr: 1.0e-2, lr_min: 1.0e-3, warmup: 5}}\n",
            folder_.path()));
    run("depthroute-train", {folder_ / "train.yaml"});
  }

  /// Every kind of measurement, on one split; a document is a word. Returns the results file.
  std::string evaluate(const std::string& split) {
    const std::string output = folder_ / (split + ".h5"), config = folder_ / (split + ".yaml");
    write_file_atomically(
        config,
        fmt::format(
            "output: {0}\ndevice: cpu\nmicro_batch: 8\nmodel: {{from: {1}/run}}\n"
            "data: {{shards: [{1}/shards/val.bin], seq_len: 32, sequences: 60, separator: 32,\n"
            "       split: {2}}}\n"
            "splits: {{calibration_sequences: 8}}\n"
            "resample: {{donors: 2}}\nrouting: {{edge_estimates: true}}\n"
            "grids:\n"
            "  - {{families: [embedding, older, recent, current], sublayers: [attn, mlp],\n"
            "     bands: [early, late], interventions: [mask, mean, resample]}}\n"
            "  - {{edges: all, sublayers: [attn, mlp], bands: [early, late], interventions: [mask]}}\n"
            "cells:\n"
            "  - {{name: only the state, sources: [current], sublayers: [attn, mlp],\n"
            "     intervention: only}}\n"
            "  - {{name: frozen, sublayers: [attn, mlp], intervention: freeze, per_token: true}}\n"
            "  - {{name: both, union: [mask/embedding/mlp/early, resample/embedding/attn/late]}}\n"
            "claims:\n"
            "  - {{name: routing changes predictions, cell: only the state, measure: kl}}\n"
            "  - {{name: one band outweighs all, cell: mask/embedding/mlp/late,\n"
            "     exceeds: only the state, measure: kl}}\n"
            "statistics: {{bootstrap: 200}}\n",
            output, folder_.path(), split));
    run("depthroute-eval", {config});
    return output;
  }

  /// The analysis says of every cell what the results say. Its sums run over documents, those of the program
  /// over segments.
  static void expect_same_cells(const Hdf5Reader& results, const Hdf5Reader& analysis,
                                const std::string& group) {
    EXPECT_EQ(analysis.strings(group + "/cell/cell"), results.strings("/cell/cell"));
    EXPECT_EQ(analysis.strings(group + "/cell/status"), results.strings("/cell/status"));
    int measured = 0;
    for (const char* name : {"delta_nll", "kl", "abs_delta_nll", "flip_rate", "hit_change", "mass"}) {
      const std::vector<double> here = results.doubles(std::string("/cell/") + name);
      const std::vector<double> there = analysis.doubles(group + "/cell/" + name);
      ASSERT_EQ(here.size(), there.size()) << name;
      for (size_t i = 0; i < here.size(); ++i) {
        SCOPED_TRACE(fmt::format("{} of {}", name, results.strings("/cell/cell")[i]));
        ASSERT_EQ(std::isnan(here[i]), std::isnan(there[i]));
        if (std::isnan(here[i])) continue;
        EXPECT_NEAR(here[i], there[i], 1e-12 * std::max(1.0, std::abs(here[i])));
        ++measured;
      }
    }
    EXPECT_GT(measured, 6 * 40);
    EXPECT_NEAR(analysis.doubles(group + "/clean/mean_nll").at(0), results.doubles("/clean/mean_nll").at(0),
                1e-12);
  }

  /// Every claim's row has the difference and its interval as the analysis does, and the verdict.
  static void expect_claims_on_page(const std::string& page, const Hdf5Reader& analysis,
                                    const std::string& group) {
    const std::vector<std::string> claims = analysis.strings(group + "/claim/claim");
    const std::vector<std::string> verdicts = analysis.strings(group + "/claim/verdict");
    for (size_t i = 0; i < claims.size(); ++i) {
      SCOPED_TRACE(claims[i]);
      const size_t begin = page.find(claims[i] + "<br>");
      ASSERT_NE(begin, std::string::npos);
      const std::string row = page.substr(begin, page.find("</tr>", begin) - begin);
      EXPECT_NE(row.find("\"verdict " + verdicts[i] + "\""), std::string::npos) << row;
      const std::string mark = "<data value=\"";
      size_t at = row.find(mark);  // the margin
      for (const char* name : {"difference", "difference_low", "difference_high"}) {
        const double value = analysis.doubles(group + "/claim/" + name).at(i);
        if (std::isnan(value)) {  // too few documents for an interval
          EXPECT_NE(row.find("<td class=\"number\">–</td>", at), std::string::npos) << row;
          continue;
        }
        at = row.find(mark, at + 1);
        ASSERT_NE(at, std::string::npos) << row;
        EXPECT_EQ(std::strtod(row.c_str() + at + mark.size(), nullptr), value) << name;
      }
    }
  }

  TempFolder folder_;
};

TEST_F(Report, WhatIsMeasuredIsWhatTheAnalysisAndThePageSay) {
  if (std::system("/usr/bin/python3 -c 'import h5py, matplotlib, numpy, scipy' >/dev/null 2>&1") != 0)
    GTEST_SKIP() << kPython << " lacks h5py, matplotlib, numpy or scipy: nothing reads the results";
  train();
  const std::string explored = evaluate("exploration"), confirmed = evaluate("confirmation");
  const std::string analysis_path = folder_ / "analysis.h5";
  python("analyze.py",
         {explored, confirmed, "-o", analysis_path, "--bootstrap", "300", "--rank-draws", "100"});
  const Hdf5Reader exploration(explored), confirmation(confirmed), analysis(analysis_path);
  expect_same_cells(exploration, analysis, "/file_0000");
  expect_same_cells(confirmation, analysis, "/file_0001");

  // No token is in both, and what is explored is not judged.
  const std::vector<int64_t> documents = exploration.integers("/segment/document");
  for (const int64_t document : confirmation.integers("/segment/document"))
    EXPECT_EQ(std::count(documents.begin(), documents.end(), document), 0) << document;
  const std::vector<std::string> claims = confirmation.strings("/claim/claim");
  ASSERT_EQ(claims.size(), 2u);
  EXPECT_EQ(analysis.strings("/file_0000/claim/claim"), claims);
  EXPECT_EQ(analysis.strings("/file_0000/claim/verdict"),
            (std::vector<std::string>{"not_judged", "not_judged"}));
  // What the verdicts are depends on the bits of the tiny model: they follow from the intervals.
  const std::vector<double> margins = analysis.doubles("/file_0001/claim/margin"),
                            low = analysis.doubles("/file_0001/claim/difference_low"),
                            high = analysis.doubles("/file_0001/claim/difference_high");
  const std::vector<std::string> verdicts = analysis.strings("/file_0001/claim/verdict");
  for (size_t i = 0; i < claims.size(); ++i)
    EXPECT_EQ(verdicts[i], std::isnan(low[i])     ? "not_judged"
                           : low[i] > margins[i]  ? "holds"
                           : high[i] < margins[i] ? "fails"
                                                  : "undecided")
        << claims[i];

  // The first-order estimates belong to the edges: they and the exact effects have the same names.
  EXPECT_TRUE(analysis.has("/file_0000/rank/spearman"));
  EXPECT_TRUE(analysis.has("/file_0000/edge_miss/edge_estimate"));

  for (const std::string& results : {explored, confirmed}) {
    const std::string page_path = folder_ / "report.html";
    python("report.py", {results, "--analysis", analysis_path, "-o", page_path});
    expect_claims_on_page(read_file(page_path), analysis, results == explored ? "/file_0000" : "/file_0001");
  }
}

}  // namespace
}  // namespace depthroute
