// depthroute-eval on benchmark tasks: the harness's own results on a committed model, cells, parts, refusals.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "data/atomic_path.h"
#include "data/files.h"
#include "eval/results/hdf5.h"
#include "tests/eval/eval_program.h"
#include "tests/eval/results/compare_results.h"
#include "tests/support/paths.h"
#include "tests/support/request_text.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;
using testing_support::choice;
using testing_support::document;
using testing_support::request_text;

// Made by parity_lm_eval.py --golden: a small trained Qwen3, request files, and what lm_eval says of them.
std::string golden(const std::string& name) {
  return test_paths::source() + "/tests/eval/tasks/golden/" + name;
}

class EvalTasks : public EvalProgram {
 protected:
  std::string text(const std::string& model, const std::string& requests, const std::string& rest = "",
                   const std::string& data = "") const {
    return "output: " + results() + "\nmodel: {from: " + model + "}\ndata: {requests: " + requests + data +
           "}\nmicro_batch: 12\nstatistics: {bootstrap: 200}\n" + rest;
  }
  /// Writes requests where expect_nothing_written() does not look.
  std::string write(const std::string& requests) const {
    write_file_atomically(data_ / "task.jsonl", requests);
    return data_ / "task.jsonl";
  }
  TempFolder data_;
};

/// Random items of a multiple choice over the golden models' vocabulary.
std::vector<std::string> random_items(int64_t count) {
  const std::vector<int32_t> tokens = random_tokens(40 * count);
  std::vector<std::string> items;
  for (int64_t i = 0; i < count; ++i) {
    const auto at = [&](int64_t begin, int64_t size) {
      return std::vector<int32_t>(tokens.begin() + 40 * i + begin, tokens.begin() + 40 * i + begin + size);
    };
    items.push_back(
        document(i, {choice(at(0, 3 + i % 4), at(10, 1 + i % 3), 4), choice(at(0, 3 + i % 4), at(20, 2), 7)},
                 fmt::format("\"gold\": {}, ", i % 2)));
  }
  return items;
}

const char* const kTaskCells =
    "grids:\n"
    "  - {families: [embedding, current], sublayers: [attn, mlp], bands: [early, late],\n"
    "     interventions: [mask, resample]}\n";

class HarnessTasks : public EvalTasks, public testing::WithParamInterface<const char*> {};

TEST_P(HarnessTasks, EqualTheHarnesssOwnResults) {
  const std::string name = GetParam();
  const Ran ran = run(text(golden("model"), golden(name + ".jsonl")));
  ASSERT_EQ(ran.status, 0) << ran.err;
  const auto expected = nlohmann::json::parse(read_file(golden(name + ".expected.json")));
  const Hdf5Reader file(results());
  const auto nll = file.doubles("/clean/nll_by_segment"), hits = file.doubles("/clean/hits_by_segment");
  const auto tokens = file.integers("/segment/tokens"), documents = file.integers("/segment/document");
  const auto& likelihoods = expected["loglikelihoods"];
  size_t request = 0;
  for (size_t i = 0; i < nll.size(); ++request) {
    double ours = 0;
    const bool rolling = expected["greedy"][request].is_null();
    const size_t first = i;
    do {
      ours -= nll[i++];
    } while (rolling && i < nll.size() && documents[i] == documents[first]);
    EXPECT_NEAR(ours, likelihoods[request].get<double>(), 1e-4) << name << " request " << request;
    if (rolling) continue;
    EXPECT_EQ(hits[first] == static_cast<double>(tokens[first]), expected["greedy"][request].get<bool>());
  }
  EXPECT_EQ(request, likelihoods.size());
  for (const auto& [metric, value] : expected["metrics"].items()) {
    const double ours = file.doubles("/task/clean_" + metric)[0], theirs = value.get<double>();
    const bool counts = metric.rfind("acc", 0) == 0;
    EXPECT_NEAR(ours, theirs, counts ? 1e-12 : 1e-5 * theirs) << metric;
  }
  EXPECT_GE(expected["metrics"].size(), 2u);
}

INSTANTIATE_TEST_SUITE_P(Golden, HarnessTasks, testing::Values("lambada_openai", "hellaswag", "wikitext"),
                         [](const auto& task) { return std::string(task.param); });

TEST_F(EvalTasks, CellsChangeMetricsAndKnownAnswersDoNot) {
  const Ran ran = run(
      text(golden("model"), golden("hellaswag.jsonl"), std::string(kTaskCells) + "routing: {weights: all}\n"),
      "--set model.wrap.recency_bias=3 --set model.wrap.num_blocks=2");
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_NE(ran.out.find("delta_acc_norm"), std::string::npos) << ran.out;
  const Hdf5Reader file(results());
  const auto cells = file.strings("/cell/cell"), status = file.strings("/cell/status");
  const auto gold = file.integers("/task/gold");
  double largest = 0;
  for (const char* metric : {"acc", "acc_norm", "acc_bytes"}) {
    const std::string path = std::string("/task/") + metric;
    const auto clean = file.doubles(fmt::format("/task/clean_{}_by_document", metric));
    const auto by_document = file.doubles(path + "_by_document"), value = file.doubles(path);
    const auto delta = file.doubles(fmt::format("/task/delta_{}", metric));
    const auto low = file.doubles(fmt::format("/task/delta_{}_low", metric));
    const auto high = file.doubles(fmt::format("/task/delta_{}_high", metric));
    ASSERT_EQ(by_document.size(), cells.size() * gold.size());
    double clean_mean = 0;
    for (const double number : clean) clean_mean += number / static_cast<double>(gold.size());
    for (size_t cell = 0; cell < cells.size(); ++cell) {
      if (status[cell] == "not_run") continue;
      double mean = 0;
      for (size_t d = 0; d < gold.size(); ++d)
        mean += by_document[cell * gold.size() + d] / static_cast<double>(gold.size());
      EXPECT_NEAR(value[cell], mean, 1e-12) << cells[cell];
      EXPECT_NEAR(delta[cell], mean - clean_mean, 1e-12) << cells[cell];
      EXPECT_LE(low[cell], delta[cell]);
      EXPECT_GE(high[cell], delta[cell]);
      largest = std::max(largest, std::abs(delta[cell]));
    }
    EXPECT_EQ(file.doubles(fmt::format("/task/known_answer_delta_{}", metric))[0], 0.0);
  }
  EXPECT_GT(largest, 0.1);
  if (std::system("/usr/bin/python3 -c 'import h5py' >/dev/null 2>&1") != 0) return;
  const std::string command = "/usr/bin/python3 " + test_paths::source() +
                              "/tests/eval/results/check_results.py " + results() + " >" + (data_ / "out") +
                              " 2>&1";
  EXPECT_EQ(std::system(command.c_str()), 0) << read_file(data_ / "out");
}

// Padding enters no mean, mass or effect: a request that makes all others longer changes nothing of them but
// rounding (losses are near 30 nats).
TEST_F(EvalTasks, PaddingIsNothing) {
  std::vector<std::string> items = random_items(6);
  const std::string cells = kTaskCells;
  const std::string only_mask = cells.substr(0, cells.find(", resample")) + "]}\n";
  std::vector<std::vector<double>> found[2];
  for (auto& values : found) {
    const Ran ran =
        run(text(golden_folder("reset"), write(request_text("multiple_choice", items)), only_mask));
    ASSERT_EQ(ran.status, 0) << ran.err;
    const Hdf5Reader file(results());
    for (const char* path :
         {"/clean/nll_by_segment", "/routing/weight_by_segment", "/routing/norm_share_by_segment",
          "/routing/projection_share_by_segment", "/routing/cosine_by_segment"})
      values.push_back(file.doubles(path));
    const auto deltas = file.doubles("/cell/delta_nll_by_segment");
    for (size_t cell = 0, size = file.strings("/cell/cell").size(); cell < size; ++cell)
      values.emplace_back(deltas.begin() + static_cast<ptrdiff_t>(cell * deltas.size() / size),
                          deltas.begin() + static_cast<ptrdiff_t>((cell + 1) * deltas.size() / size));
    // The means are over scored tokens: those of the sums by segment.
    const auto weights = file.doubles("/routing/weight_by_segment"), mean = file.doubles("/routing/mean");
    for (size_t k = 0; k < mean.size(); ++k) {
      double sum = 0;
      for (size_t i = k; i < weights.size(); i += mean.size()) sum += weights[i];
      if (std::isnan(mean[k])) continue;
      EXPECT_NEAR(mean[k], sum / file.integer_attribute("/", "tokens_evaluated"), 1e-9);
    }
    fs::remove_all(results() + ".units");
    fs::remove(results());
    items.push_back(
        document(6, {choice(random_tokens(30), {1, 2, 3}, 3), choice({5}, {6}, 1)}, "\"gold\": 0, "));
  }
  ASSERT_EQ(found[0].size(), found[1].size());
  for (size_t k = 0; k < found[0].size(); ++k) {
    ASSERT_LT(found[0][k].size(), found[1][k].size());
    for (size_t i = 0; i < found[0][k].size(); ++i) {
      if (!std::isnan(found[0][k][i])) {
        EXPECT_NEAR(found[0][k][i], found[1][k][i], 1e-4) << k << " " << i;
      }
    }
  }
}

TEST_F(EvalTasks, PartsAndResumedRunsMakeTheFileOfOneJob) {
  const std::string config =
      text(golden_folder("cumulative"), write(request_text("multiple_choice", random_items(20))), kTaskCells);
  ASSERT_EQ(run(config).status, 0);
  fs::rename(results(), data_ / "single.h5");
  EXPECT_EQ(run(config).status, 0);  // from its units
  EXPECT_EQ(differences(data_ / "single.h5", results()), std::vector<std::string>{});
  fs::remove_all(results() + ".units");
  fs::remove(results());
  for (const char* part : {"--part 1/2", "--part 0/2", "--merge 2"}) {
    const Ran ran = run(config, part);
    EXPECT_EQ(ran.status, 0) << ran.err;
  }
  EXPECT_EQ(differences(data_ / "single.h5", results()), std::vector<std::string>{});
  // Other requests are another measurement.
  write(request_text("multiple_choice", random_items(19)));
  const Ran other = run(config);
  EXPECT_EQ(other.status, 2);
  EXPECT_NE(other.err.find("another measurement (data.requests: "), std::string::npos) << other.err;
}

TEST_F(EvalTasks, MeansAreOfTheCalibrationSplitsDocuments) {
  const Ran ran =
      run(text(golden_folder("kimi"), write(request_text("multiple_choice", random_items(30))),
               "splits: {calibration_sequences: 6}\ncells:\n"
               "  - {name: mean, sources: [embedding], bands: [late], sublayers: [mlp], intervention: mean}\n"
               "  - {name: start, sources: [embedding], sublayers: [mlp], intervention: mask, "
               "tokens: document_start}\n"
               "claims: [{name: c, cell: mean}]\n",
               ", split: confirmation, seed: 4"));
  ASSERT_EQ(ran.status, 0) << ran.err;
  const Hdf5Reader file(results());
  EXPECT_EQ(file.string_attribute("/", "choose"), "requests");
  EXPECT_EQ(file.integer_attribute("/", "documents"), 12);
  EXPECT_EQ(file.integers("/task/document").size(), 12u);
}

TEST_F(EvalTasks, DryRunSaysWhatIsMeasured) {
  const Ran ran = run(text(golden("model"), golden("lambada_openai.jsonl")), "--dry-run");
  ASSERT_EQ(ran.status, 0) << ran.err;
  for (const char* part :
       {"Task: lambada_openai (loglikelihood, made with lm_eval 0.4", "40 documents, 40 requests",
        "scored tokens of", "lost the beginning of their context"})
    EXPECT_NE(ran.out.find(part), std::string::npos) << part << ran.out;
  expect_nothing_written();
}

TEST_F(EvalTasks, RefusalsAreOneLineAndWriteNothing) {
  const std::string good = request_text("multiple_choice", random_items(3));
  const std::string model = golden_folder("cumulative");
  const auto refuse = [&](const std::string& requests, const std::string& part,
                          const std::string& rest = "") {
    expect_refused(text(model, write(requests), rest), part);
  };
  expect_refused(text(model, data_ / "nothing.jsonl"), "nothing.jsonl");
  refuse(good.substr(0, good.size() - 9), "is truncated");
  refuse(request_text("loglikelihood", {document(0, {testing_support::request({1}, {97})})}),
         "token 97 is outside the model's vocabulary of 97");
  refuse(good, "cell 'c': first_token = 50 is beyond the last position; the longest request has",
         "cells: [{name: c, sources: [0], sublayers: [mlp], intervention: mask, first_token: 50}]\n");
  refuse(good, "resample.donors is 5, but only 4 of the 6 sequences", kTaskCells);
  expect_refused(text(model, write(good), "", ", seq_len: 9"), "data.seq_len does not go with data.requests");

  // A model folder with another tokenizer than the requests were made with.
  fs::create_directory(data_ / "model");
  for (const char* name : {"config.json", "model.safetensors", "tokenizer.json"})
    fs::copy_file(golden(std::string("model/") + name), data_ / std::string("model/") + name);
  EXPECT_EQ(run(text(data_ / "model", golden("hellaswag.jsonl")), "--dry-run").status, 0);
  write_file_atomically(data_ / "model/tokenizer.json", read_file(golden("model/tokenizer.json")) + " ");
  expect_refused(text(data_ / "model", golden("hellaswag.jsonl")), "made with another tokenizer than");
  fs::remove(data_ / "model/tokenizer.json");  // nothing to compare with
  EXPECT_EQ(run(text(data_ / "model", golden("hellaswag.jsonl")), "--dry-run").status, 0);
}

}  // namespace
}  // namespace depthroute
