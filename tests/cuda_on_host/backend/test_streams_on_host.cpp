// What runs beside the main stream, on the emulated device, which runs work as late as it may or in another order
// that a GPU allows: the copy of a checkpoint, the inputs of a step, and the streams themselves.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <numeric>
#include <thread>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/ops/ops.h"
#include "tests/kernels/host_tensor.h"
#include "train/checkpoint/device_copy.h"

namespace depthroute {
namespace {

class InOrder : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { setenv("CUDA_ON_HOST_STREAMS", GetParam(), 1); }
  void TearDown() override { unsetenv("CUDA_ON_HOST_STREAMS"); }
};
INSTANTIATE_TEST_SUITE_P(Orders, InOrder, testing::Values("eager", "lazy", "opposite", "1", "2", "3"));

TEST_P(InOrder, ADeviceIsCopiedInChunksAsOfTheBeginning) {
  constexpr int64_t kNumel = 5'003;
  test::F32 a({kNumel}, 0), b({7}, 0), c({1'024}, 0);
  const Stream stream = test::stream();
  DeviceCopy copy(4096);  // 1024 values
  const std::atomic<bool> stop = false;
  for (int round = 0; round < 3; ++round) {
    const Tensor sources[] = {a.tensor(), b.tensor(), c.tensor()};
    std::vector<float> to(kNumel + 7 + 1'024, -1);
    std::vector<DeviceCopy::Piece> pieces;
    int64_t at = 0;
    for (size_t i = 0; i < 3; ++i) {
      ops::fill(stream, sources[i], static_cast<float>(10 * round + static_cast<int>(i)));
      pieces.push_back({sources[i], host_tensor(to.data() + at, {sources[i].numel()})});
      at += sources[i].numel();
    }
    copy.begin(stream, pieces);
    std::thread([&] { copy.run(stop); }).join();
    for (size_t i = 0; i < to.size(); ++i) {
      const int source = i < kNumel ? 0 : i < kNumel + 7 ? 1 : 2;
      ASSERT_EQ(to[i], static_cast<float>(10 * round + source)) << i;
    }
  }
}

// The copy must not begin before the training stream has computed what is copied.
TEST(DeviceCopy, MissesAForgottenWait) {
  setenv("CUDA_ON_HOST_FORGET_WAITS", "all", 1);
  test::F32 a({3'000}, 1);
  const Tensor source = a.tensor();
  DeviceCopy copy(4096);
  std::vector<float> to(3'000, -1);
  ops::fill(test::stream(), source, 2);
  copy.begin(test::stream(), {{source, host_tensor(to.data(), {3'000})}});
  const std::atomic<bool> stop = false;
  copy.run(stop);
  unsetenv("CUDA_ON_HOST_FORGET_WAITS");
  EXPECT_EQ(to, std::vector<float>(3'000, 1)) << "the value before";
}

TEST(DeviceCopy, EndsWhenAsked) {
  test::F32 a({3'000}, 1);
  DeviceCopy copy(4096);
  std::vector<float> to(3'000, -1);
  copy.begin(test::stream(), {{a.tensor(), host_tensor(to.data(), {3'000})}});
  const std::atomic<bool> stop = true;
  copy.run(stop);
  EXPECT_EQ(to, std::vector<float>(3'000, -1));
}

TEST(SeparateStream, MayBeUrgent) {
  const cuda::SeparateStream ordinary, urgent(cuda::Urgency::urgent);
  int least = 0, greatest = 0, priority = 1;
  ASSERT_EQ(cudaDeviceGetStreamPriorityRange(&least, &greatest), cudaSuccess);
  ASSERT_EQ(cudaStreamGetPriority(static_cast<cudaStream_t>(ordinary.get().handle), &priority), cudaSuccess);
  EXPECT_EQ(priority, least);
  ASSERT_EQ(cudaStreamGetPriority(static_cast<cudaStream_t>(urgent.get().handle), &priority), cudaSuccess);
  EXPECT_EQ(priority, greatest);
  EXPECT_LT(greatest, least);
}

}  // namespace
}  // namespace depthroute
