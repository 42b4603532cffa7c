// The mix of sources: exact shares of every prefix, and positions that stand for themselves.
#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "data/tokens/mix.h"

namespace depthroute {
namespace {

/// Of the first n positions a source has within 1 - 1 / (2K - 2) of its share: in draws times parts times
/// steps.
void expect_exact_prefixes(const std::vector<int64_t>& parts, int64_t positions) {
  const Mix mix(parts);
  const int64_t cycle = std::accumulate(parts.begin(), parts.end(), int64_t{0});
  const auto sources = std::ssize(parts);
  const int64_t steps = std::max<int64_t>(1, 2 * sources - 2);
  ASSERT_EQ(mix.num_sources(), sources);
  std::vector<int64_t> drawn(parts.size(), 0);
  for (int64_t k = 0; k < positions; ++k) {
    const Mix::Draw draw = mix.at(k);
    ASSERT_EQ(draw.number, drawn[static_cast<size_t>(draw.source)]++)
        << "every draw of a source comes once, in order";
    for (int64_t i = 0; i < sources; ++i) {
      const int64_t count = drawn[static_cast<size_t>(i)];
      ASSERT_EQ(mix.draws(i, k + 1), count);
      const int64_t ahead =
          count * cycle - (k + 1) * parts[static_cast<size_t>(i)];  // of its share, times cycle
      ASSERT_LE(std::abs(ahead) * steps, cycle * (steps - 1))
          << "source " << i << " of " << k + 1 << " positions";
    }
  }
}

TEST(Mix, EveryPrefixHasEverySourceToWithinOneDraw) {
  expect_exact_prefixes({7, 3}, 200);
  expect_exact_prefixes({1, 1, 1, 1, 1, 1, 1}, 100);
  expect_exact_prefixes({900, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10}, 3000);  // due at the same time
  expect_exact_prefixes({1, 1000, 1, 3, 999}, 6000);
  std::mt19937_64 random(4);
  for (int i = 0; i < 300; ++i) {
    std::vector<int64_t> parts(2 + random() % 9);
    const uint64_t most = uint64_t{1} << random() % 8;
    int64_t cycle = 0;
    for (int64_t& part : parts) cycle += part = static_cast<int64_t>(1 + random() % most);
    expect_exact_prefixes(parts, 2 * cycle + 1);
    if (HasFatalFailure()) FAIL() << "case " << i;
  }
}

TEST(Mix, OneSourceIsDrawnInOrder) {
  const Mix mix(std::vector<int64_t>{5});
  for (int64_t k = 0; k < 20; ++k) {
    EXPECT_EQ(mix.at(k).source, 0);
    EXPECT_EQ(mix.at(k).number, k);
    EXPECT_EQ(mix.draws(0, k), k);
  }
}

// What is answered for a position depends on no other: far positions are those of the first cycle, shifted.
TEST(Mix, FarPositionsNeedNoneBefore) {
  const std::vector<int64_t> parts = {500, 23, 1};
  const Mix mix(parts);
  const int64_t cycles = (int64_t{1} << 60) / 524;
  for (int64_t k = 0; k < 524; ++k) {
    const Mix::Draw near = mix.at(k), far = mix.at(cycles * 524 + k);
    ASSERT_EQ(far.source, near.source);
    ASSERT_EQ(far.number, near.number + cycles * parts[static_cast<size_t>(near.source)]);
  }
}

TEST(Mix, TheLongestCycleAndTheMostSources) {
  const Mix longest(std::vector<int64_t>{(1 << 20) - 3, 2, 1});
  EXPECT_EQ(longest.draws(0, 1 << 20), (1 << 20) - 3);
  EXPECT_EQ(longest.draws(2, 1 << 20), 1);
  const Mix most(std::vector<int64_t>(Mix::kMostSources, 1));
  for (int64_t i = 0; i < Mix::kMostSources; ++i) EXPECT_EQ(most.draws(i, Mix::kMostSources), 1);
}

}  // namespace
}  // namespace depthroute
