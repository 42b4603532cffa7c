// Ratio estimates and their bootstrap intervals.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "configs/base/error.h"
#include "configs/base/random.h"
#include "eval/analysis/bootstrap.h"

namespace depthroute {
namespace {

std::vector<double> normal_values(uint64_t key, size_t n, double mean) {
  std::vector<double> values;
  for (size_t i = 0; i < n; ++i) values.push_back(mean + random_normal_pair(key, i).first);
  return values;
}

TEST(Statistics, EstimateIsARatioOfSums) {
  const std::vector<std::vector<double>> values = {{1.0, 2.0, 6.0}};
  const std::vector<int64_t> tokens = {1, 1, 4};
  EXPECT_DOUBLE_EQ(estimate_ratios(values, tokens, {})[0].value, 1.5);
}

TEST(Statistics, FewerThanTwoSequencesHaveNoInterval) {
  const std::vector<std::vector<double>> values = {{3.0}};
  const Estimate one = estimate_ratios(values, std::vector<int64_t>{2}, {})[0];
  EXPECT_DOUBLE_EQ(one.value, 1.5);
  EXPECT_TRUE(std::isnan(one.low) && std::isnan(one.high) && std::isnan(one.standard_error));
  EXPECT_TRUE(std::isnan(missing_estimate().value));
}

TEST(Statistics, DrawsPickEachSequenceEquallyOften) {
  constexpr int64_t kDraws = 20000;
  std::vector<uint32_t> counts(7);
  std::vector<double> totals(7);
  for (int64_t draw = 0; draw < kDraws; ++draw) {
    bootstrap_counts(5, draw, counts);
    EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), 0u), 7u);
    for (size_t i = 0; i < counts.size(); ++i) totals[i] += counts[i];
  }
  // Variance of a count is 1 - 1/7: the mean of 20000 has a standard error of 0.0065.
  for (double total : totals) EXPECT_NEAR(total / kDraws, 1.0, 5 * 0.0066);
}

TEST(Statistics, StandardErrorIsTheTextbookOneForEqualWeights) {
  const size_t n = 400;
  const std::vector<std::vector<double>> values = {normal_values(3, n, 0.5)};
  const Estimate estimate = estimate_ratios(values, std::vector<int64_t>(n, 1), {20000, 0.05, 9})[0];
  double squares = 0;
  for (double value : values[0]) squares += (value - estimate.value) * (value - estimate.value);
  const double expected = std::sqrt(squares) / n;  // the bootstrap's limit: population deviation over sqrt(n)
  EXPECT_NEAR(estimate.standard_error, expected, 0.02 * expected);
  EXPECT_NEAR(estimate.high - estimate.low, 2 * 1.96 * expected, 0.05 * expected * 3.92);
}

TEST(Statistics, CoverageIsAboutNominal) {
  constexpr int kTrials = 400;
  int covered = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    const std::vector<std::vector<double>> values = {
        normal_values(100 + static_cast<uint64_t>(trial), 60, 0.0)};
    const Estimate estimate = estimate_ratios(values, std::vector<int64_t>(60, 1), {400, 0.1, 1})[0];
    covered += estimate.low <= 0 && 0 <= estimate.high;
  }
  // Nominal 0.90; the percentile interval is a little short at n = 60 and the count has a standard error of
  // 0.015.
  EXPECT_GT(covered, 0.84 * kTrials);
  EXPECT_LT(covered, 0.95 * kTrials);
}

TEST(Statistics, EveryQuantityHasTheSameDraws) {
  // The second is the first shifted: paired draws shift the interval by exactly as much.
  std::vector<double> a = normal_values(8, 31, 0.0), b = a;
  for (double& value : b) value += 4.0;
  const std::vector<std::vector<double>> both = {a, b}, alone = {b};
  const std::vector<int64_t> tokens(31, 1);
  const auto together = estimate_ratios(both, tokens, {999, 0.05, 2});
  EXPECT_NEAR(together[1].low - together[0].low, 4.0, 1e-12);
  EXPECT_NEAR(together[1].high - together[0].high, 4.0, 1e-12);
  EXPECT_NEAR(together[1].standard_error, together[0].standard_error, 1e-12);
  const Estimate other = estimate_ratios(alone, tokens, {999, 0.05, 2})[0];
  EXPECT_EQ(other.low, together[1].low);  // and does not depend on what else is asked
  EXPECT_NE(estimate_ratios(alone, tokens, {999, 0.05, 3})[0].low, other.low);
}

TEST(Statistics, IntervalsAreQuantilesOfTheSortedReplicates) {
  // Whether sums of products are contracted is the compiler's choice: g++ 12 does, g++ 14 does not. That is
  // 23 roundings of sums below 100, divided by 69.
  constexpr double kRounding = 1e-14;
  const std::vector<int64_t> tokens(23, 3);
  for (uint64_t key = 0; key < 6; ++key) {
    std::vector<double> values = normal_values(key, 23, 0.0);
    if (key == 4) values.assign(23, 0.25);  // all alike
    if (key == 5)
      for (double& value : values) value = std::round(value) * 0.0625;  // many alike, zeros too
    for (const int64_t draws : {2, 3, 41, 1000})
      for (const double alpha : {0.05, 0.1, 0.999}) {
        std::vector<double> sorted;
        std::vector<uint32_t> counts(23);
        for (int64_t draw = 0; draw < draws; ++draw) {
          bootstrap_counts(11, draw, counts);
          double sum = 0;
          for (size_t i = 0; i < 23; ++i) sum += counts[i] * values[i];
          sorted.push_back(sum / 69);
        }
        std::sort(sorted.begin(), sorted.end());
        const Estimate estimate =
            estimate_ratios(std::vector<std::vector<double>>{values}, tokens, {draws, alpha, 11})[0];
        EXPECT_NEAR(estimate.low, sorted_quantile(sorted, alpha / 2), kRounding) << key << " " << draws;
        EXPECT_NEAR(estimate.high, sorted_quantile(sorted, 1 - alpha / 2), kRounding) << key << " " << draws;
      }
  }
}

TEST(Statistics, GroupsBoundTheMemoryAndChangeNoBit) {
  std::vector<std::vector<double>> values;
  for (uint64_t k = 0; k < 7; ++k) values.push_back(normal_values(k, 19, 0.1 * static_cast<double>(k)));
  values[3][5] = NAN;
  const std::vector<std::span<const double>> views(values.begin(), values.end());
  const std::vector<int64_t> tokens = {9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 4};
  const BootstrapOptions options{501, 0.05, 4};
  const auto bits = [](const std::vector<Estimate>& estimates) {
    return std::string(reinterpret_cast<const char*>(estimates.data()), estimates.size() * sizeof(Estimate));
  };
  const std::string expected = bits(estimate_ratios(values, tokens, options));
  for (int64_t group = 0; group <= 8; ++group) {
    BootstrapMemory memory(501, 19, 7, group * 501 * 8 + 7);
    EXPECT_EQ(memory.group(), std::clamp<int64_t>(group, 1, 7));
    EXPECT_EQ(bits(estimate_ratios(views, tokens, options, memory)), expected) << group;
    EXPECT_EQ(bits(estimate_ratios(views, tokens, options, memory)), expected) << "memory used before";
  }
  EXPECT_LT(BootstrapMemory::bytes(10'000, 256, 1'000'000), int64_t{1} << 29);
  EXPECT_EQ(BootstrapMemory::bytes(100'000'000, 16, 1000), BootstrapMemory::bytes(100'000'000, 16, 1));
#ifndef __SANITIZE_ADDRESS__  // ends the program where others throw
  EXPECT_THROW(BootstrapMemory(int64_t{1} << 55, 1, 1), SystemError);
#endif
}

TEST(Statistics, NotANumberHasNoInterval) {
  const std::vector<std::vector<double>> values = {{1.0, NAN, 2.0}};
  const Estimate estimate = estimate_ratios(values, std::vector<int64_t>(3, 1), {})[0];
  EXPECT_TRUE(std::isnan(estimate.value) && std::isnan(estimate.low) && std::isnan(estimate.standard_error));
}

TEST(Statistics, QuantilesAreLinearBetweenNeighbours) {
  const std::vector<double> sorted = {1, 2, 4};
  EXPECT_DOUBLE_EQ(sorted_quantile(sorted, 0), 1);
  EXPECT_DOUBLE_EQ(sorted_quantile(sorted, 0.75), 3);
  EXPECT_DOUBLE_EQ(sorted_quantile(sorted, 1), 4);
}

}  // namespace
}  // namespace depthroute
