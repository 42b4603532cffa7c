// The choice of matrix products' algorithms through the programs. The emulated device's algorithms give bits of their
// own, and what the clock says of them is set here (CUDA_ON_HOST_GEMM_MICROSECONDS).
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "data/atomic_path.h"
#include "data/files.h"
#include "tests/train/tiny_run.h"
#include "train/checkpoint/gemm_choices_file.h"
#include "train/checkpoint/run_folder.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;
using testing_support::is_one_line;
using testing_support::Result;

constexpr int64_t kSteps = 4;
constexpr const char *kSecondIsFastest = "9,1,9,9", *kThirdIsFastest = "9,9,1,9";

class GemmChoicesOnHost : public testing_support::TinyRun {
 protected:
  void TearDown() override {
    unsetenv("CUDA_ON_HOST_GEMM_MICROSECONDS");
    unsetenv("CUDA_ON_HOST_BLAS_VERSION");
  }

  /// A run of kSteps steps, or what is left of it, where the clock says `times`.
  Result run(const std::string& output, const char* times, const std::vector<std::string>& settings = {}) {
    setenv("CUDA_ON_HOST_GEMM_MICROSECONDS", times, 1);
    std::vector<std::string> arguments;
    for (const std::string& setting : {std::string("checkpoint.every=2"), std::string("checkpoint.keep=0")})
      arguments.insert(arguments.end(), {"--set", setting});
    for (const std::string& setting : settings) arguments.insert(arguments.end(), {"--set", setting});
    return train(write_config(output, kSteps), arguments);
  }
  void run_to_end(const std::string& output, const char* times,
                  const std::vector<std::string>& settings = {}) {
    const Result result = run(output, times, settings);
    ASSERT_EQ(result.status, 0) << result.err;
    log_ = result.out;
  }
  /// Leaves of a run what a kill after step 2 would have left.
  void cut_back(const std::string& output) { fs::remove_all(checkpoint(output, kSteps)); }

  std::string choices_file(const std::string& output) const { return gemm_choices_path(path(output)); }
  std::vector<StoredGemmChoices> choices(const std::string& output) const {
    return read_gemm_choices(choices_file(output));
  }
  /// Those of the first device that the run has seen.
  GemmChoices first_choices(const std::string& output) const { return choices(output).at(0).choices; }
  void store(const std::string& output, const std::vector<StoredGemmChoices>& choices) const {
    fs::create_directories(path(output));
    write_file_atomically(choices_file(output), gemm_choices_to_json(choices));
  }
  bool same_weights(const std::string& a, const std::string& b) const {
    const auto weights = [&](const std::string& output) {
      return read_file(checkpoint(output, kSteps) + "/model/model.safetensors");
    };
    return weights(a) == weights(b);
  }
  bool logged(const std::string& text) const { return log_.find(text) != std::string::npos; }

  std::string log_;
};

TEST_F(GemmChoicesOnHost, AResumedRunKeepsItsBitsWhateverTheClockSaysByThen) {
  run_to_end("straight", kSecondIsFastest);
  EXPECT_TRUE(logged("timed ")) << log_;
  EXPECT_TRUE(logged("800.0 % faster")) << log_;
  ASSERT_EQ(choices("straight").size(), 1u);
  EXPECT_GE(choices("straight")[0].choices.size(), 15u)
      << "forward and backward of four matrices and the head";
  for (const auto& [product, choice] : first_choices("straight"))
    EXPECT_EQ(choice.rank, 1) << to_string(product);

  const auto resume = [&](const std::string& output) {
    cut_back(output);
    run_to_end(output, kThirdIsFastest);
    EXPECT_TRUE(logged("resuming after step 2")) << log_;
  };
  run_to_end("broken", kSecondIsFastest);
  resume("broken");
  EXPECT_FALSE(logged("timed ")) << log_;
  EXPECT_FALSE(logged("note:")) << log_;
  expect_same_run("straight", "broken", kSteps);

  // A choice that is lost, stale or filed under another product shows in the bits.
  fs::remove(choices_file("broken"));
  resume("broken");
  EXPECT_TRUE(logged("note: no choice of algorithms is stored")) << log_;
  EXPECT_FALSE(same_weights("straight", "broken"));

  run_to_end("other", kThirdIsFastest);
  EXPECT_FALSE(same_weights("straight", "other"));
  store("broken", choices("other"));
  resume("broken");
  EXPECT_FALSE(same_weights("straight", "broken"));

  std::vector<StoredGemmChoices> misfiled = choices("straight");
  GemmChoices moved;
  for (const auto& [product, choice] : misfiled[0].choices) {
    GemmProduct key = product;
    key.accumulate = !key.accumulate;
    moved[key] = choice;
  }
  misfiled[0].choices = moved;
  store("broken", misfiled);
  resume("broken");
  EXPECT_FALSE(same_weights("straight", "broken"));

  store("broken", choices("straight"));
  resume("broken");
  expect_same_run("straight", "broken", kSteps);
}

TEST_F(GemmChoicesOnHost, TimingChangesNothingElse) {
  run_to_end("timed", "1,1,1,1");  // the library's first candidates win
  EXPECT_TRUE(logged("timed ")) << log_;
  run_to_end("untimed", kSecondIsFastest, {"train.tune_products=false"});
  EXPECT_FALSE(logged("timed ")) << log_;
  expect_same_run("timed", "untimed", kSteps);

  // A run that was not to time them keeps that choice, too.
  ASSERT_EQ(choices("untimed").size(), 1u);
  EXPECT_TRUE(choices("untimed")[0].choices.empty());
  cut_back("untimed");
  run_to_end("untimed", kSecondIsFastest);
  expect_same_run("timed", "untimed", kSteps);
}

// No two runs measure alike, so a deterministic one does not measure. It can be given another run's choice.
TEST_F(GemmChoicesOnHost, DeterministicRunsTakeAChoiceButMakeNone) {
  const std::vector<std::string> deterministic = {"deterministic=true", "distributed.shards=2"};
  run_to_end("one", kSecondIsFastest, deterministic);
  EXPECT_FALSE(logged("timed ")) << log_;
  run_to_end("two", kThirdIsFastest, deterministic);
  EXPECT_TRUE(same_weights("one", "two"));

  run_to_end("source", kSecondIsFastest);
  for (const char* output : {"three", "four"}) {
    store(output, choices("source"));
    run_to_end(output, kThirdIsFastest, deterministic);
  }
  EXPECT_TRUE(same_weights("three", "four"));
  EXPECT_FALSE(same_weights("one", "three"));
}

TEST_F(GemmChoicesOnHost, ARecordedMicroBatchUsesTheChoice) {
  run_to_end("plain", kSecondIsFastest);
  store("recorded", choices("plain"));
  run_to_end("recorded", kThirdIsFastest, {"train.cuda_graph=true"});
  EXPECT_TRUE(same_weights("plain", "recorded"));
  run_to_end("timed", kSecondIsFastest, {"train.cuda_graph=true"});
  EXPECT_TRUE(same_weights("plain", "timed"));
}

TEST_F(GemmChoicesOnHost, AnotherLibraryGetsAChoiceOfItsOwnAndTheFirstFindsItsOwnAgain) {
  run_to_end("straight", kSecondIsFastest);
  run_to_end("moved", kSecondIsFastest);
  cut_back("moved");
  setenv("CUDA_ON_HOST_BLAS_VERSION", "2", 1);
  run_to_end("moved", kThirdIsFastest);
  EXPECT_TRUE(logged("note: no choice of algorithms is stored for emulated with plain loops 2")) << log_;
  EXPECT_TRUE(logged("timed ")) << log_;
  EXPECT_FALSE(same_weights("straight", "moved"));
  ASSERT_EQ(choices("moved").size(), 2u);
  EXPECT_EQ(choices("moved")[0], choices("straight")[0]);

  cut_back("moved");
  setenv("CUDA_ON_HOST_BLAS_VERSION", "1", 1);
  run_to_end("moved", kThirdIsFastest);
  EXPECT_FALSE(logged("note:")) << log_;
  expect_same_run("straight", "moved", kSteps);
}

TEST_F(GemmChoicesOnHost, ARunFromAnotherRunsCheckpointTakesItsChoice) {
  run_to_end("straight", kSecondIsFastest);
  run_to_end("fork", kThirdIsFastest, {"checkpoint.resume=" + checkpoint("straight", 2)});
  EXPECT_FALSE(logged("timed ")) << log_;
  EXPECT_EQ(choices("fork"), choices("straight"));
  EXPECT_TRUE(same_weights("straight", "fork"));
}

TEST_F(GemmChoicesOnHost, ADamagedFileOrAnUnknownAlgorithmIsRefused) {
  run_to_end("run", kSecondIsFastest);
  const std::vector<StoredGemmChoices> whole = choices("run");
  cut_back("run");
  flip_byte(choices_file("run"), 200);
  const Result damaged = run("run", kSecondIsFastest);
  EXPECT_EQ(damaged.status, 2);
  EXPECT_TRUE(is_one_line(damaged.err));
  EXPECT_NE(damaged.err.find(choices_file("run") + ": "), std::string::npos) << damaged.err;

  std::vector<StoredGemmChoices> unknown = whole;
  unknown[0].choices.begin()->second.algorithm = "77";
  store("run", unknown);
  const Result refused = run("run", kSecondIsFastest);
  EXPECT_EQ(refused.status, 2);
  EXPECT_TRUE(is_one_line(refused.err));
  EXPECT_NE(refused.err.find("do not accept the algorithm for c ["), std::string::npos) << refused.err;
  EXPECT_FALSE(exists(checkpoint("run", kSteps)));
}

TEST_F(GemmChoicesOnHost, CandidatesThatFailOrAreNoFasterAreNotTaken) {
  run_to_end("failing", "5,x,4,x");
  for (const auto& [product, choice] : first_choices("failing")) EXPECT_EQ(choice.rank, 2);
  run_to_end("close", "5,4.95,4.91,5");
  for (const auto& [product, choice] : first_choices("close")) EXPECT_EQ(choice.rank, 0);
  const Result none = run("none", "x,x,x,x");
  EXPECT_EQ(none.status, 1);
  EXPECT_NE(none.err.find("none of 4 algorithms computes c ["), std::string::npos) << none.err;
}

}  // namespace
}  // namespace depthroute
