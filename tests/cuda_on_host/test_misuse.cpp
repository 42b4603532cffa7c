// What would hang, be refused or be undefined on a GPU ends the program with a clear message.
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/cuda_on_host/samples.h"

namespace depthroute::cuda::samples {
namespace {

struct Case {
  Misuse kind;
  const char* order;
  const char* message;
};

class MisuseDeathTest : public testing::TestWithParam<Case> {};

TEST_P(MisuseDeathTest, IsReported) {
  EXPECT_DEATH(
      {
        setenv("CUDA_ON_HOST_ORDER", GetParam().order, 1);
        misuse(GetParam().kind, nullptr);
        cudaDeviceSynchronize();
      },
      GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    All, MisuseDeathTest,
    testing::Values(
        Case{Misuse::kDivergentBarrier, "forward",
             "deadlock in block \\(0,0,0\\): 16 threads at __syncthreads \\(first: thread \\(0,0,0\\)\\), "
             "16 in a warp collective \\(first: thread \\(16,0,0\\)\\), 0 ended"},
        Case{Misuse::kMixedBarriers, "forward",
             "thread \\(1,0,0\\) of block \\(0,0,0\\) is at another kind of __syncthreads than 1 threads"},
        Case{Misuse::kLaneEnded, "forward", "but the lanes 0x00000020 have already ended"},
        Case{Misuse::kLaneEndsLater, "forward",
             "thread \\(31,0,0\\) of block \\(0,0,0\\) ended while 31 lanes of its warp wait for it"},
        Case{Misuse::kLaneEndsLater, "reverse", "but the lanes 0x80000000 have already ended"},
        Case{Misuse::kLaneMissing, "forward", "its warp has only the lanes 0x0000ffff"},
        Case{Misuse::kMaskWithoutSelf, "forward", "mask 0xfffffffe, which lacks its own lane 0"},
        Case{Misuse::kWidthNotPowerOfTwo, "forward", "width 12: a power of two"},
        Case{Misuse::kMixedCollectives, "forward", "another kind of warp collective than 16 lanes"},
        Case{Misuse::kTrap, "forward", "thread \\(7,0,0\\) of block \\(0,0,0\\) called __trap"}));

TEST(LaunchDeathTest, RefusesWhatAGpuRefuses) {
  EXPECT_DEATH(nothing(dim3(0), dim3(32), 0, nullptr), "cudaErrorInvalidConfiguration: grid \\(0,1,1\\)");
  EXPECT_DEATH(nothing(dim3(1, 65536), dim3(32), 0, nullptr),
               "cudaErrorInvalidConfiguration: grid \\(1,65536,1\\)");
  EXPECT_DEATH(nothing(dim3(1), dim3(0), 0, nullptr), "cudaErrorInvalidConfiguration: block \\(0,1,1\\)");
  EXPECT_DEATH(nothing(dim3(1), dim3(32, 33), 0, nullptr),
               "cudaErrorInvalidConfiguration: block \\(32,33,1\\)");
  EXPECT_DEATH(nothing(dim3(1), dim3(1, 1, 65), 0, nullptr),
               "cudaErrorInvalidConfiguration: block \\(1,1,65\\)");
  EXPECT_DEATH(nothing(dim3(1), dim3(32), 227 * 1024 + 1, nullptr), "232449 bytes of dynamic shared memory");
  nothing(dim3(1, 65535), dim3(1), 0, nullptr);
  nothing(dim3(1), dim3(32, 32), 0, nullptr);
  nothing(dim3(1), dim3(1, 1, 64), 227 * 1024, nullptr);
}

TEST(LaunchDeathTest, OrderThatIsNone) {
  EXPECT_DEATH(
      {
        setenv("CUDA_ON_HOST_ORDER", "backwards", 1);
        nothing(dim3(1), dim3(1), 0, nullptr);
        cudaDeviceSynchronize();
      },
      "CUDA_ON_HOST_ORDER is 'backwards': forward, reverse or a seed");
}

TEST(LaunchDeathTest, BarrierOutsideAKernel) {
  EXPECT_DEATH(barrier_on_the_host(), "__syncthreads called outside a kernel");
}

}  // namespace
}  // namespace depthroute::cuda::samples
