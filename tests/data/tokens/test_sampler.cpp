#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <vector>

#include "data/tokens/sampler.h"

namespace depthroute {
namespace {

std::vector<int64_t> epoch_of(const Sampler& sampler, int64_t size, int64_t epoch) {
  std::vector<int64_t> order;
  for (int64_t i = 0; i < size; ++i) order.push_back(sampler.sample(epoch * size + i));
  return order;
}

TEST(Sampler, EveryEpochVisitsEverySampleOnce) {
  for (const int64_t size :
       {1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 63, 64, 65, 97, 255, 256, 257, 1009, 4096, 65537})
    for (const uint64_t seed : {0ull, 1ull, 42ull, ~0ull})
      for (const int64_t epoch : {0, 1, 1000}) {
        std::vector<int64_t> order = epoch_of(Sampler(size, DataOrder::shuffled, seed), size, epoch);
        std::sort(order.begin(), order.end());
        for (int64_t i = 0; i < size; ++i) ASSERT_EQ(order[i], i) << "size " << size << " seed " << seed;
      }
}

TEST(Sampler, SequentialIsTheIdentityInEveryEpoch) {
  const Sampler sampler(7, DataOrder::sequential, 5);
  for (int64_t k = 0; k < 30; ++k) {
    EXPECT_EQ(sampler.sample(k), k % 7);
    EXPECT_EQ(sampler.epoch(k), k / 7);
  }
}

TEST(Sampler, EpochsAndSeedsHaveOrdersOfTheirOwn) {
  constexpr int64_t kSize = 1000;
  std::set<std::vector<int64_t>> orders;
  for (uint64_t seed = 0; seed < 8; ++seed)
    for (int64_t epoch = 0; epoch < 8; ++epoch)
      orders.insert(epoch_of(Sampler(kSize, DataOrder::shuffled, seed), kSize, epoch));
  EXPECT_EQ(orders.size(), 64u);
  // Of two independent permutations one position agrees on average; 12 have a chance of 1e-9.
  const auto a = epoch_of(Sampler(kSize, DataOrder::shuffled, 1), kSize, 0);
  const auto b = epoch_of(Sampler(kSize, DataOrder::shuffled, 1), kSize, 1);
  int64_t equal = 0;
  for (int64_t i = 0; i < kSize; ++i) equal += a[i] == b[i];
  EXPECT_LT(equal, 12);
}

// All orders of a tiny set should come about equally often: chi-square against the uniform distribution,
// limit at degrees of freedom + 5 standard deviations.
TEST(Sampler, EveryOrderOfATinySetIsAboutEquallyLikely) {
  for (const auto& [size, orders] : std::map<int64_t, int>{{2, 2}, {3, 6}, {4, 24}, {5, 120}, {6, 720}}) {
    constexpr int kDraws = 72000;
    std::map<std::vector<int64_t>, int> seen;
    for (int epoch = 0; epoch < kDraws; ++epoch)
      ++seen[epoch_of(Sampler(size, DataOrder::shuffled, 9), size, epoch)];
    const double expected = static_cast<double>(kDraws) / orders;
    double chi_square = (orders - static_cast<double>(seen.size())) * expected;
    for (const auto& [order, count] : seen) chi_square += (count - expected) * (count - expected) / expected;
    EXPECT_LT(chi_square, orders - 1 + 5 * std::sqrt(2.0 * (orders - 1))) << "size " << size;
  }
}

// Where the first samples of an epoch fall, in 20 bins; and neighbours do not stay neighbours.
TEST(Sampler, LargeSetsAreSpreadEvenly) {
  for (const int64_t size : {int64_t{1000003}, int64_t{1} << 40, (int64_t{1} << 40) - 87}) {
    constexpr int kDraws = 20000, kBins = 20;
    const Sampler sampler(size, DataOrder::shuffled, 3);
    std::vector<double> bins(kBins, 0);
    std::set<int64_t> seen;
    int64_t previous = -2, neighbours = 0;
    for (int64_t k = 0; k < kDraws; ++k) {
      const int64_t sample = sampler.sample(k);
      ASSERT_TRUE(sample >= 0 && sample < size);
      ASSERT_TRUE(seen.insert(sample).second);
      ++bins[static_cast<size_t>(static_cast<double>(sample) / static_cast<double>(size) * kBins)];
      neighbours += std::abs(sample - previous) == 1;
      previous = sample;
    }
    double chi_square = 0;
    for (const double count : bins)
      chi_square += (count - kDraws / kBins) * (count - kDraws / kBins) / (kDraws / kBins);
    EXPECT_LT(chi_square, 19 + 5 * std::sqrt(2.0 * 19));
    EXPECT_LT(neighbours, 10);
  }
}

// A run that was started with one order must find the same after an update of the program.
TEST(Sampler, OrderIsPinned) {
  EXPECT_EQ(epoch_of(Sampler(8, DataOrder::shuffled, 42), 8, 0),
            (std::vector<int64_t>{1, 2, 4, 5, 7, 6, 0, 3}));
  EXPECT_EQ(epoch_of(Sampler(8, DataOrder::shuffled, 42), 8, 1),
            (std::vector<int64_t>{7, 3, 6, 2, 1, 5, 4, 0}));
}

}  // namespace
}  // namespace depthroute
