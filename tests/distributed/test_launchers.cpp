// The built program with what launchers leave in the environment, without the launchers.
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/distributed/launch.h"
#include "tests/support/program.h"
#include "tests/support/temp_folder.h"

namespace depthroute {
namespace {

using testing_support::Result;

/// One process by itself, which is told that it is one of several.
class Launchers : public testing::Test {
 protected:
  void SetUp() override {
    DR_SKIP_WITHOUT_MPI();
    variables_.emplace_back("ASAN_OPTIONS");  // launch.cpp says why
    setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
  }
  void TearDown() override {
    for (const std::string& name : variables_) unsetenv(name.c_str());
  }
  Result run_with(const std::string& name, const std::string& value) {
    variables_.push_back(name);
    setenv(name.c_str(), value.c_str(), 1);
    return testing_support::run_program_to_end("collectives_worker", {"control"}, folder_.path());
  }
  TempFolder folder_;
  std::vector<std::string> variables_;
};

TEST_F(Launchers, SrunWithoutMpiIsToldSo) {
  const Result result = run_with("SLURM_STEP_NUM_TASKS", "4");
  EXPECT_EQ(result.status, 2);
  EXPECT_TRUE(has(result.err, "srun started 4 tasks without MPI: start the program with srun --mpi=pmix"))
      << result.err;
}

TEST_F(Launchers, ALauncherOfAnotherMpiIsNoticed) {
  const Result result = run_with("OMPI_COMM_WORLD_SIZE", "4");
  EXPECT_EQ(result.status, 2) << result.err;
  EXPECT_TRUE(has(result.err, "mpirun started 4 processes, but MPI sees 1")) << result.err;
}

TEST_F(Launchers, NoneIsOneProcess) {
  const Result result = run_with("SLURM_STEP_NUM_TASKS", "1");
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, "ok 1\n");
}

}  // namespace
}  // namespace depthroute
