// Every sample kernel against a plain loop, with threads in several orders. All results are exact.
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tests/cuda_on_host/device_array.h"
#include "tests/cuda_on_host/samples.h"

namespace depthroute::cuda::samples {
namespace {

class InEveryOrder : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { setenv("CUDA_ON_HOST_ORDER", GetParam().c_str(), 1); }
  void TearDown() override { unsetenv("CUDA_ON_HOST_ORDER"); }
};

std::vector<float> whole_numbers(int64_t n) {
  std::mt19937 random(7);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& value : x) value = static_cast<float>(static_cast<int>(random() % 2001) - 700);
  return x;
}

TEST_P(InEveryOrder, VectorLoadsSharedMemoryShufflesAndBarriers) {
  const int rows = 7, cols = 516;
  const std::vector<float> host = whole_numbers(rows * cols);
  const DeviceArray<float> x(host), y(host.size());
  normalize_rows(Fault::kNone, x.data(), y.data(), rows, cols, nullptr);
  const std::vector<float> got = y.to_host();
  for (int row = 0; row < rows; ++row) {
    float sum = 0;  // whole numbers below 2^24: exact in any order
    for (int c = 0; c < cols; ++c) sum += host[row * cols + c];
    for (int c = 0; c < cols; ++c)
      ASSERT_EQ(got[row * cols + c], host[row * cols + c] / sum) << row << " " << c;
  }
}

TEST_P(InEveryOrder, Bfloat16IsRoundedToNearestEven) {
  const int64_t n = 1000;
  std::vector<__nv_bfloat16> host(n);
  for (int64_t i = 0; i < n; ++i) host[i] = __float2bfloat16_rn(static_cast<float>(i) * 0.37f - 100);
  const DeviceArray<__nv_bfloat16> x(host);
  scale_bf16(x.data(), n, 1.75f, 0.3f, 96, nullptr);  // exact products: the same with and without FMA
  const std::vector<__nv_bfloat16> got = x.to_host();
  for (int64_t i = 0; i < n; ++i) {
    const float exact = __bfloat162float(host[i]) * 1.75f + 0.3f;
    uint32_t bits;
    std::memcpy(&bits, &exact, 4);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    float rounded;
    std::memcpy(&rounded, &bits, 4);
    ASSERT_EQ(__bfloat162float(got[i]), rounded) << i;
  }
}

/// The source lane according to the CUDA programming guide, independent of the emulator's arithmetic.
int expected_source(int variant, int lane, int operand, int width) {
  const int segment = lane / width * width;
  switch (variant) {
    case 0:
      return segment + operand % width;
    case 1:
      return lane - operand < segment ? lane : lane - operand;
    case 2:
      return lane + operand >= segment + width ? lane : lane + operand;
    default:
      return (lane ^ operand) >= segment + width ? lane : lane ^ operand;
  }
}

template <typename T>
void check_shuffles() {
  for (const int width : {1, 2, 4, 8, 16, 32}) {
    for (const int operand : {0, 1, 2, 3, 7, 16, 21, 31}) {
      const DeviceArray<T> out(128);
      shuffles(out.data(), operand, width, nullptr);
      const std::vector<T> got = out.to_host();
      for (int variant = 0; variant < 4; ++variant) {
        for (int lane = 0; lane < 32; ++lane) {
          const int source = expected_source(variant, lane, operand, width);
          ASSERT_EQ(got[variant * 32 + lane], static_cast<T>(1000 * source + 7))
              << "variant " << variant << " lane " << lane << " operand " << operand << " width " << width;
        }
      }
    }
  }
}

TEST_P(InEveryOrder, Shuffles) {
  check_shuffles<int>();
  check_shuffles<unsigned>();
  check_shuffles<int64_t>();
  check_shuffles<float>();
  check_shuffles<double>();
}

TEST_P(InEveryOrder, HalvesOfAWarpMeetByThemselves) {
  const DeviceArray<int> out(32);
  half_warp_sums(out.data(), nullptr);
  const std::vector<int> got = out.to_host();
  for (int lane = 0; lane < 32; ++lane) EXPECT_EQ(got[lane], lane < 16 ? 120 : 376) << lane;
}

TEST_P(InEveryOrder, Votes) {
  for (const uint32_t set : {0u, 1u, 0x80000001u, 0x0f0f1234u, 0xffffffffu}) {
    const DeviceArray<unsigned> ballot(32);
    const DeviceArray<int> any(32), all(32);
    votes(set, ballot.data(), any.data(), all.data(), nullptr);
    EXPECT_EQ(ballot.to_host(), std::vector<unsigned>(32, set));
    EXPECT_EQ(any.to_host(), std::vector<int>(32, set != 0));
    EXPECT_EQ(all.to_host(), std::vector<int>(32, set == 0xffffffffu));
  }
}

TEST_P(InEveryOrder, BarriersCountAndLetEndedThreadsGo) {
  for (const int threads : {2, 33, 100, 1024}) {
    for (const int limit : {0, 1, 50, threads}) {
      const DeviceArray<int> out(3 * threads);
      counting_barriers(out.data(), threads, limit, nullptr);
      int waiting = 0, yes = 0;
      for (int thread = 0; thread < threads; ++thread) {
        if (thread % 3 == 0) continue;
        ++waiting;
        yes += thread < limit;
      }
      const std::vector<int> got = out.to_host();
      for (int thread = 0; thread < threads; ++thread) {
        const bool ended = thread % 3 == 0;
        ASSERT_EQ(got[thread], ended ? -1 : yes) << threads << " " << limit;
        ASSERT_EQ(got[threads + thread], ended ? -1 : yes > 0);
        ASSERT_EQ(got[2 * threads + thread], ended ? -1 : yes == waiting);
      }
    }
  }
}

TEST_P(InEveryOrder, BlocksAndGridsOfThreeDimensions) {
  const dim3 grid(3, 2, 4), block(5, 7, 3);
  const uint32_t threads = block.x * block.y * block.z;
  const DeviceArray<uint64_t> out(grid.x * grid.y * grid.z * threads);
  indices(out.data(), grid, block, nullptr);
  const std::vector<uint64_t> got = out.to_host();
  size_t at = 0;
  for (uint64_t bz = 0; bz < grid.z; ++bz)
    for (uint64_t by = 0; by < grid.y; ++by)
      for (uint64_t bx = 0; bx < grid.x; ++bx)
        for (uint64_t tz = 0; tz < block.z; ++tz)
          for (uint64_t ty = 0; ty < block.y; ++ty)
            for (uint64_t tx = 0; tx < block.x; ++tx) {
              const uint64_t packed = tx << 50 | ty << 40 | tz << 30 | bx << 20 | by << 10 | bz;
              ASSERT_EQ(got[at++], packed);
            }
}

TEST_P(InEveryOrder, Atomics) {
  const DeviceArray<float> f(std::vector<float>{1});
  const DeviceArray<double> d(std::vector<double>{1});
  const DeviceArray<int> i(std::vector<int>{1});
  const DeviceArray<unsigned> u(std::vector<unsigned>{1});
  atomic_sums(f.data(), d.data(), i.data(), u.data(), 5, nullptr);
  EXPECT_EQ(f.to_host()[0], 241);
  EXPECT_EQ(d.to_host()[0], 121);
  EXPECT_EQ(i.to_host()[0], 1 - 3 * 480);
  EXPECT_EQ(u.to_host()[0], 961u);
}

TEST_P(InEveryOrder, LoadsAndStoresThatNameACachePolicy) {
  constexpr int kThreads = 40;
  std::vector<unsigned> words(4 * kThreads);
  for (unsigned i = 0; i < words.size(); ++i) words[i] = 2654435761u * (i + 1);
  const DeviceArray<unsigned> from(words), to(words.size());
  cached_copies(from.data(), to.data(), kThreads, nullptr);
  EXPECT_EQ(to.to_host(), words);
}

TEST_P(InEveryOrder, DynamicSharedMemoryIsNanForEveryBlock) {
  const DeviceArray<int> out(6);
  count_nans_in_dynamic_shared(out.data(), 6, 777, nullptr);
  EXPECT_EQ(out.to_host(), std::vector<int>(6, 777));
}

INSTANTIATE_TEST_SUITE_P(Orders, InEveryOrder, testing::Values("forward", "reverse", "1", "2", "12345"),
                         [](const auto& order) { return order.param; });

TEST(MissingBarrier, GivesWrongNumbersInSomeOrder) {
  const int rows = 3, cols = 516;
  const std::vector<float> host = whole_numbers(rows * cols);
  const DeviceArray<float> x(host), right(host.size());
  normalize_rows(Fault::kNone, x.data(), right.data(), rows, cols, nullptr);
  bool wrong = false;
  for (const char* order : {"forward", "reverse", "1"}) {
    setenv("CUDA_ON_HOST_ORDER", order, 1);
    const DeviceArray<float> y(host.size());
    normalize_rows(Fault::kMissingBarrier, x.data(), y.data(), rows, cols, nullptr);
    wrong |= y.to_host() != right.to_host();
  }
  unsetenv("CUDA_ON_HOST_ORDER");
  EXPECT_TRUE(wrong);
}

}  // namespace
}  // namespace depthroute::cuda::samples
