// From sums per sequence to an estimate with an interval. The estimate is a ratio of sums (token-weighted);
// the interval is a percentile bootstrap over sequences, with the same draws for every quantity, so that
// differences between cells are paired. Sequences are taken as independent: where one document spans several,
// intervals are too narrow.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace depthroute {

struct Estimate {
  double value = 0;           // sum of values / sum of tokens
  double low = 0, high = 0;   // percentile interval at 1 - alpha; NaN with fewer than two sequences
  double standard_error = 0;  // standard deviation of the bootstrap replicates; NaN likewise
};

struct BootstrapOptions {
  int64_t draws = 10000;
  double alpha = 0.05;
  uint64_t seed = 1;
};

/// How often each of counts.size() sequences is in draw `draw`. The i-th pick depends on (seed, draw, i)
/// only, so nothing depends on threads or on which quantities are resampled.
void bootstrap_counts(uint64_t seed, int64_t draw, std::span<uint32_t> counts);

/// One estimate per quantity; every quantity has one value per sequence, as `tokens` has (programmer error
/// otherwise).
std::vector<Estimate> estimate_ratios(std::span<const std::vector<double>> quantities,
                                      std::span<const int64_t> tokens, const BootstrapOptions& options);

/// What a cell that did not run has: NaN throughout.
Estimate missing_estimate();

/// The q-quantile of sorted values, linear between neighbours (numpy's default).
double sorted_quantile(std::span<const double> sorted, double q);

}  // namespace depthroute
