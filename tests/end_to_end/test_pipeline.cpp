// What tools/demo.sh does, small: real text to shards, a Block AttnRes model killed and resumed, a plain twin
// wrapped, both ablated, everything through the programs' command lines; and what the results must say for
// anyone to believe them.
#include <gtest/gtest.h>
#include <signal.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "data/files.h"
#include "eval/results/hdf5.h"
#include "tests/support/paths.h"
#include "tests/support/program.h"
#include "tests/support/temp_folder.h"

namespace depthroute {
namespace {

using testing_support::Program;
using testing_support::Result;
using testing_support::run_program_to_end;

constexpr int kSteps = 200, kEvery = 20;

class Pipeline : public testing::Test {
 protected:
  void run(const std::string& program, const std::vector<std::string>& arguments, Result& result) {
    result = run_program_to_end(program, arguments, folder_.path());
    ASSERT_EQ(result.status, 0) << program << ": " << result.err << result.out;
  }
  /// configs/demo.yaml made small.
  std::vector<std::string> train_arguments(const std::string& output, const std::string& variant) const {
    std::vector<std::string> arguments = {source("configs/demo.yaml")};
    for (const std::string& set : {"output=" + output,
                                   "model.residual.variant=" + variant,
                                   "data.train=[" + shards_ + "/train.bin]",
                                   "data.val=[" + shards_ + "/val.bin]",
                                   std::string("data.seq_len=48"),
                                   std::string("model.hidden_size=48"),
                                   std::string("model.num_layers=3"),
                                   std::string("model.num_heads=3"),
                                   std::string("model.num_kv_heads=1"),
                                   std::string("model.head_dim=16"),
                                   std::string("model.intermediate_size=96"),
                                   std::string("model.residual.num_blocks=3"),
                                   "train.steps=" + std::to_string(kSteps),
                                   std::string("train.global_batch=12"),
                                   std::string("train.micro_batch=6"),
                                   std::string("optimizer.lr=1e-2"),
                                   std::string("optimizer.lr_min=1e-3"),
                                   std::string("optimizer.warmup=10"),
                                   "checkpoint.every=" + std::to_string(kEvery),
                                   "validate.every=" + std::to_string(kEvery),
                                   std::string("validate.sequences=8")}) {
      arguments.push_back("--set");
      arguments.push_back(set);
    }
    return arguments;
  }
  std::vector<std::string> eval_arguments(const std::string& config, const std::string& model,
                                          const std::string& output) const {
    return {source(config),
            "--set",
            "model.from=" + model,
            "--set",
            "data.shards=[" + shards_ + "/val.bin]",
            "--set",
            "data.seq_len=48",
            "--set",
            "data.sequences=8",
            "--set",
            "data.separator=32",  // a document is a word
            "--set",
            "splits.calibration_sequences=8",
            "--set",
            "output=" + output,
            "--set",
            "statistics.bootstrap=500"};
  }
  static std::string source(const std::string& path) { return test_paths::source() + "/" + path; }

  TempFolder folder_;
  std::string shards_ = folder_ / "shards";
};

/// Mean loss of the logged steps after `step`: a single step's 576 tokens may be hard ones.
double mean_loss_after(const std::string& path, int64_t step) {
  std::istringstream lines(read_file(path));
  double sum = 0;
  int count = 0;
  for (std::string line; std::getline(lines, line);) {
    const nlohmann::json object = nlohmann::json::parse(line);
    if (!object.contains("loss") || object.at("step") <= step) continue;
    sum += object.at("loss").get<double>();
    ++count;
  }
  return sum / count;
}

nlohmann::json last_line_with(const std::string& path, const std::string& key) {
  std::istringstream lines(read_file(path));
  nlohmann::json found;
  for (std::string line; std::getline(lines, line);)
    if (nlohmann::json object = nlohmann::json::parse(line); object.contains(key)) found = object;
  return found;
}

TEST_F(Pipeline, FromTextToAblationsOfATrainedAndAWrappedModel) {
  Result result;
  run("depthroute-tokenize",
      {source("LICENSE"), source("README.md"), source("train/model/SPEC.md"), source("eval/SPEC.md"),
       "--output", shards_, "--val-fraction", "0.1"},
      result);
  const std::string mark = "unigram entropy: ";
  ASSERT_NE(result.out.find(mark), std::string::npos) << result.out;
  const double unigram = std::stod(result.out.substr(result.out.find(mark) + mark.size()));
  ASSERT_GT(unigram, 2.5);

  // Killed when it has made some checkpoints, then the same command again.
  const std::string attnres = folder_ / "attnres", plain = folder_ / "plain";
  std::filesystem::create_directories(attnres + "/checkpoints");
  {
    Program training("depthroute-train", train_arguments(attnres, "cumulative"), folder_.path());
    training.watch(attnres + "/checkpoints");
    for (int events = 1; !std::filesystem::exists(attnres + "/checkpoints/step_00000040/manifest.json");
         ++events)
      ASSERT_TRUE(training.wait_for_events(events)) << "ended by itself: " << training.wait().err;
    training.send(SIGKILL);
    EXPECT_EQ(training.wait().status, 128 + SIGKILL);
  }
  run("depthroute-train", train_arguments(attnres, "cumulative"), result);
  EXPECT_NE(result.out.find("resuming after step"), std::string::npos) << result.out;
  run("depthroute-train", train_arguments(plain, "additive"), result);

  const nlohmann::json training = last_line_with(attnres + "/metrics.jsonl", "loss");
  EXPECT_EQ(training.at("step"), kSteps);
  // Knowing how often each byte occurs would give `unigram`; under four BLAS kernels the mean was 0.66 below
  // it.
  EXPECT_LT(mean_loss_after(attnres + "/metrics.jsonl", kSteps - 50), unigram - 0.2);
  const nlohmann::json validation = last_line_with(attnres + "/metrics.jsonl", "routing_mass");
  double mass = 0;
  for (const char* family : {"embedding", "older", "recent", "current"})
    mass += validation.at("routing_mass").at(family).get<double>();
  EXPECT_NEAR(mass, 1.0, 1e-5);

  const std::string trained_results = folder_ / "attnres.h5", wrapped_results = folder_ / "wrapped.h5";
  run("depthroute-eval",
      eval_arguments("configs/eval-demo.yaml", attnres + "/checkpoints/latest", trained_results), result);
  EXPECT_NE(result.out.find("mask/embedding/mlp/early"), std::string::npos) << result.out;
  run("depthroute-eval", eval_arguments("configs/eval-wrapped-demo.yaml", plain, wrapped_results), result);

  // Zero queries start with equal weights; training has moved them.
  const Hdf5Reader trained(trained_results), wrapped(wrapped_results);
  const std::vector<int64_t> sources = trained.integers("/site/n_sources");
  const std::vector<double> mean = trained.doubles("/routing/mean");
  const size_t columns = mean.size() / sources.size();
  double moved = 0;
  for (size_t site = 0; site < sources.size(); ++site)
    for (int64_t j = 0; j < sources[site]; ++j)
      moved = std::max(moved, std::abs(mean[site * columns + j] - 1.0 / static_cast<double>(sources[site])));
  EXPECT_GT(moved, 0.05);

  // The wrapped model's weights do not depend on content.
  for (double deviation : wrapped.doubles("/routing/std")) {
    if (std::isnan(deviation)) continue;  // the site has fewer sources
    EXPECT_EQ(deviation, 0.0);
  }
  // Known answers: passed or not judged, never failed.
  for (const Hdf5Reader* file : {&trained, &wrapped})
    for (int64_t passed : file->integers("/known_answer/passed")) EXPECT_NE(passed, 0);
}

}  // namespace
}  // namespace depthroute
