// Ranks that would measure differently compute with the same algorithms: rank 0's.
#include "tests/distributed/job_run.h"

namespace depthroute {
namespace {

using testing_support::Result;

class GemmChoicesJobs : public testing_support::JobRun {};

TEST_F(GemmChoicesJobs, RankZeroDecidesForAll) {
#ifndef HAVE_TRAIN_ON_HOST
  GTEST_SKIP() << "built without MPI or without the emulated device";
#endif
  // `times`: of the four algorithms on either device.
  const auto job = [&](const std::string& name, const std::string& times) {
    const std::vector<std::string> settings = {
        "device=cuda",        "deterministic=false", "train.global_batch=4", "model.vocab_size=256",
        "checkpoint.every=2", "data.seq_len=16",     "validate.every=2",     "distributed.backend=mpi"};
    const Result result =
        testing_support::run_under_mpi(2, "on_host/depthroute-train", arguments(name, 2, settings), folder_,
                                       {"CUDA_ON_HOST_DEVICES=2", "CUDA_ON_HOST_GEMM_MICROSECONDS=" + times});
    EXPECT_EQ(result.status, 0) << result.err;
  };
  job("alike", "9,1,9,9;9,1,9,9");
  job("different", "9,1,9,9;9,9,1,9");
  job("others", "9,9,1,9;9,9,1,9");
  expect_same_result("alike", "different", 2);
  EXPECT_FALSE(weights("alike", 2) == weights("others", 2)) << "the algorithms differ in their bits";
}

}  // namespace
}  // namespace depthroute
