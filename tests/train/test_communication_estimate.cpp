// What a dry run says about several processes: the arithmetic of train/communication_estimate.h, and that the
// program says it.
#include "configs/base/error.h"
#include "tests/train/tiny_run.h"
#include "train/communication_estimate.h"

namespace depthroute {
namespace {

using testing_support::is_one_line;
using testing_support::Result;

class CommunicationEstimateTest : public testing_support::TinyRun {
 protected:
  CommunicationEstimateTest()
      : config_(testing_support::tiny_config()), layout_(config_.model, make_depth_plan(config_.model)) {
    config_.train.global_batch = 64;
  }
  CommunicationEstimate estimate(int processes, double matrix_bytes, double bandwidth, double rate) const {
    const Partition partition(layout_,
                              {.rank = 0, .size = processes, .pieces = processes, .bucket_elements = 4000});
    padded_ = static_cast<double>(partition.padded_size());
    return estimate_communication(config_, layout_, partition, matrix_bytes, bandwidth, rate, 0);
  }
  TrainConfig config_;
  ParameterLayout layout_;
  mutable double padded_ = 0;
};

TEST_F(CommunicationEstimateTest, BytesAndTimesFollowTheFormula) {
  const CommunicationEstimate alone = estimate(1, 4, 1e9, 1e9);
  EXPECT_EQ(alone.scatter_bytes, 0);
  EXPECT_EQ(alone.exposed_seconds, 0);
  for (const int n : {2, 3, 8}) {
    const CommunicationEstimate f32 = estimate(n, 4, 1e9, 1e9);
    const double whole = 4 * padded_ * (n - 1) / n;
    EXPECT_NEAR(f32.scatter_bytes, whole, 1e-9 * whole);
    EXPECT_NEAR(f32.gather_bytes, whole, 1e-9 * whole);
    EXPECT_NEAR(f32.seconds, 2 * whole / 1e9, 1e-12);
    EXPECT_NEAR(f32.compute_seconds * n, alone.compute_seconds, 1e-9 * alone.compute_seconds);
    // Half the bytes for matrices; a bucket on the border goes twice.
    const CommunicationEstimate bf16 = estimate(n, 2, 1e9, 1e9);
    EXPECT_LT(bf16.gather_bytes, 0.7 * whole);
    EXPECT_GT(bf16.gather_bytes, 0.5 * whole);
    // All that can be hidden is, where computing takes for ever; nothing, where it takes no time.
    const CommunicationEstimate slow = estimate(n, 4, 1e9, 1e3), quick = estimate(n, 4, 1e9, 1e30);
    EXPECT_NEAR(slow.exposed_seconds,
                slow.seconds - (slow.layer_scatter_bytes + slow.late_gather_bytes) / 1e9, 1e-12);
    EXPECT_GT(slow.layer_scatter_bytes, 0);
    EXPECT_GE(slow.late_gather_bytes, slow.layer_scatter_bytes);
    EXPECT_NEAR(quick.exposed_seconds, quick.seconds, 1e-12);
    EXPECT_NEAR(quick.exposed_share(), 1, 1e-9);
  }
}

TEST_F(CommunicationEstimateTest, TheDryRunSaysIt) {
  const std::string config = write_config("run", 10);
  Result result = train(config, {"--dry-run", "--processes", "2", "--bandwidth", "25", "--rate", "300"});
  ASSERT_EQ(result.status, 0) << result.err;
  for (const char* part :
       {"processes     2: 1 micro-batches", "25 GB/s", "300 TFLOP/s", "memory of each process"})
    EXPECT_NE(result.out.find(part), std::string::npos) << part << " in " << result.out;
  EXPECT_FALSE(exists(path("run")));

  const auto refuse = [&](const std::vector<std::string>& options, const char* reason) {
    result = train(config, options);
    EXPECT_EQ(result.status, kExitBadInput);
    EXPECT_TRUE(is_one_line(result.err));
    EXPECT_NE(result.err.find(reason), std::string::npos) << result.err;
  };
  refuse({"--dry-run", "--processes", "3"}, "too few for 3 processes");
  refuse({"--dry-run", "--processes", "none"}, "--processes: 'none'");
  refuse({"--dry-run", "--processes", "0"}, "--processes: '0'");
  refuse({"--processes", "2"}, "only with --dry-run");
}

}  // namespace
}  // namespace depthroute
