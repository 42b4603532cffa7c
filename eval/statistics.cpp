#include "eval/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "configs/base/check.h"
#include "configs/base/random.h"

namespace depthroute {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// Sums of one quantity over the sequences of one draw.
double resampled_sum(std::span<const uint32_t> counts, std::span<const double> values) {
  double sum = 0;
  for (size_t i = 0; i < counts.size(); ++i) sum += counts[i] * values[i];
  return sum;
}

/// Fills standard error and interval from the replicates, which it sorts.
void summarize(std::vector<double>& replicates, double alpha, Estimate& estimate) {
  double mean = 0, squares = 0;
  for (double replicate : replicates) mean += replicate;
  mean /= static_cast<double>(replicates.size());
  for (double replicate : replicates) squares += (replicate - mean) * (replicate - mean);
  if (!std::isfinite(squares)) return;  // a loss that is not finite has no interval
  estimate.standard_error = std::sqrt(squares / static_cast<double>(replicates.size() - 1));
  std::sort(replicates.begin(), replicates.end());
  estimate.low = sorted_quantile(replicates, alpha / 2);
  estimate.high = sorted_quantile(replicates, 1 - alpha / 2);
}

}  // namespace

void bootstrap_counts(uint64_t seed, int64_t draw, std::span<uint32_t> counts) {
  std::fill(counts.begin(), counts.end(), 0u);
  const uint64_t key = random_bits(stream_key(seed, "bootstrap"), static_cast<uint64_t>(draw));
  for (size_t i = 0; i < counts.size(); ++i) ++counts[random_below(key, i, counts.size())];
}

double sorted_quantile(std::span<const double> sorted, double q) {
  DR_CHECK(!sorted.empty() && q >= 0 && q <= 1);
  const double place = q * static_cast<double>(sorted.size() - 1);
  const size_t below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

Estimate missing_estimate() { return {kNan, kNan, kNan, kNan}; }

std::vector<Estimate> estimate_ratios(std::span<const std::vector<double>> quantities,
                                      std::span<const int64_t> tokens, const BootstrapOptions& options) {
  const size_t n = tokens.size(), m = quantities.size();
  for (const auto& values : quantities) DR_CHECK(values.size() == n);
  std::vector<Estimate> estimates(m, missing_estimate());
  const std::vector<double> weights(tokens.begin(), tokens.end());
  double total = 0;
  for (double weight : weights) total += weight;
  if (total == 0) return estimates;
  for (size_t k = 0; k < m; ++k) {
    double sum = 0;
    for (double value : quantities[k]) sum += value;
    estimates[k].value = sum / total;
  }
  if (n < 2 || options.draws < 2) return estimates;

  std::vector<std::vector<double>> replicates(m, std::vector<double>(static_cast<size_t>(options.draws)));
#pragma omp parallel
  {
    std::vector<uint32_t> counts(n);
#pragma omp for schedule(static)
    for (int64_t draw = 0; draw < options.draws; ++draw) {
      bootstrap_counts(options.seed, draw, counts);
      const double drawn = resampled_sum(counts, weights);
      for (size_t k = 0; k < m; ++k)
        replicates[k][static_cast<size_t>(draw)] =
            drawn > 0 ? resampled_sum(counts, quantities[k]) / drawn : kNan;
    }
  }
  for (size_t k = 0; k < m; ++k) summarize(replicates[k], options.alpha, estimates[k]);
  return estimates;
}

}  // namespace depthroute
