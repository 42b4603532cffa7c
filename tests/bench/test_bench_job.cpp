// depthroute-bench-job runs and prints what it should. The numbers are not checked here.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/distributed/launch.h"

namespace depthroute::testing_support {
namespace {

class BenchJob : public ::testing::Test {
 protected:
  void SetUp() override {
    DR_SKIP_WITHOUT_MPI();
    std::string name = ::testing::TempDir() + "bench_job.XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override {
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }
  nlohmann::json run(std::vector<std::string> arguments) {
    for (const char* setting : {"model.hidden_size=16", "model.num_layers=2", "model.residual.num_blocks=1",
                                "model.intermediate_size=32", "data.seq_len=8"}) {
      arguments.push_back("--set");
      arguments.push_back(setting);
    }
    const Result result = run_under_mpi(2, "depthroute-bench-job", arguments, folder_);
    EXPECT_EQ(result.status, 0) << result.err;
    nlohmann::json line = nlohmann::json::parse(result.out, nullptr, false);
    EXPECT_TRUE(line.is_object()) << result.out;
    return line;
  }
  std::string folder_;
};

TEST_F(BenchJob, TwoProcessesSayHowTheyCommunicate) {
  const nlohmann::json line = run({"--steps", "2", "--warmup", "1", "--micro-batches", "2"});
  EXPECT_EQ(line.value("processes", 0), 2);
  EXPECT_EQ(line.value("tokens_per_step", 0), 2 * 2 * 2 * 8);
  EXPECT_GT(line.value("step_ms", 0.0), 0);
  EXPECT_GT(line.value("busy_ms", 0.0), 0);
  EXPECT_LE(line.value("hidden", 2.0), 1);
  // ZeRO-1 in float32: a rank sends half of the gradients, half of the parameters, and little else.
  const double half = 2.0 * line.value("parameters", 0.0);
  EXPECT_NEAR(line.value("bytes", 0.0), 2 * half, 0.1 * half);
}

TEST_F(BenchJob, TwoProcessesSayWhatSavingCosts) {
  const nlohmann::json line = run({"--save", folder_, "--steps", "3", "--rounds", "2"});
  EXPECT_EQ(line.value("stretch_steps", 0), 3);
  EXPECT_EQ(line["ratios"].size(), 2u);
  EXPECT_GT(line.value("synchronous_ms", 0.0), 0);
  EXPECT_TRUE(std::filesystem::exists(folder_ + "/checkpoints/latest"));
}

}  // namespace
}  // namespace depthroute::testing_support
