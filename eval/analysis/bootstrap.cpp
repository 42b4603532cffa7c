#include "eval/analysis/bootstrap.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>

#include "configs/base/check.h"
#include "configs/base/error.h"
#include "configs/base/random.h"

namespace depthroute {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr int64_t kReplicateBytes = sizeof(double), kCountBytes = sizeof(uint32_t);

int64_t group_of(int64_t draws, int64_t quantities, int64_t group_bytes) {
  return std::clamp<int64_t>(group_bytes / (draws * kReplicateBytes), 1, std::max<int64_t>(quantities, 1));
}

/// Sums one quantity over the sequences of one draw.
double resampled_sum(std::span<const uint32_t> counts, std::span<const double> values) {
  double sum = 0;
  for (size_t i = 0; i < counts.size(); ++i) sum += counts[i] * values[i];
  return sum;
}

/// Interpolates between the k-th smallest value and the next, as sorted_quantile() does.
double between(double below, double above, double place) {
  return below + (place - std::floor(place)) * (above - below);
}

/// Like sorted_quantile(), for values in any order, which it changes: selecting is several times as fast as
/// sorting.
double selected_quantile(std::span<double> values, double q) {
  const double place = q * static_cast<double>(values.size() - 1);
  const auto below = values.begin() + static_cast<ptrdiff_t>(place);
  std::nth_element(values.begin(), below, values.end());
  const auto next = below + 1;
  return between(*below, next == values.end() ? *below : *std::min_element(next, values.end()), place);
}

/// Fills standard error and interval from the replicates, which it reorders.
void summarize(std::span<double> replicates, double alpha, Estimate& estimate) {
  double mean = 0, squares = 0;
  for (double replicate : replicates) mean += replicate;
  mean /= static_cast<double>(replicates.size());
  for (double replicate : replicates) squares += (replicate - mean) * (replicate - mean);
  if (!std::isfinite(squares)) return;  // a loss that is not finite has no interval
  estimate.standard_error = std::sqrt(squares / static_cast<double>(replicates.size() - 1));
  estimate.low = selected_quantile(replicates, alpha / 2);
  estimate.high = selected_quantile(replicates, 1 - alpha / 2);
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
  return between(sorted[below], sorted[std::min(below + 1, sorted.size() - 1)], place);
}

Estimate missing_estimate() { return {kNan, kNan, kNan, kNan}; }

int64_t BootstrapMemory::bytes(int64_t draws, int64_t sequences, int64_t quantities, int64_t group_bytes) {
  return group_of(draws, quantities, group_bytes) * draws * kReplicateBytes +
         omp_get_max_threads() * sequences * kCountBytes;
}

BootstrapMemory::BootstrapMemory(int64_t draws, int64_t sequences, int64_t quantities, int64_t group_bytes)
    : draws_(draws),
      sequences_(sequences),
      group_(group_of(draws, quantities, group_bytes)),
      threads_(omp_get_max_threads()) {
  try {
    // Writes zeros, so that memory the system promised but lacks is noticed now.
    replicates_.resize(static_cast<size_t>(group_ * draws_));
    counts_.resize(static_cast<size_t>(threads_ * sequences_));
  } catch (const std::bad_alloc&) {
    const double mib =
        static_cast<double>(bytes(draws, sequences, quantities, group_bytes)) / static_cast<double>(1 << 20);
    throw SystemError(
        "statistics.bootstrap: {} draws need {:.0f} MiB of memory, more than there is: set fewer", draws,
        std::ceil(mib));
  }
}

std::span<double> BootstrapMemory::replicates(int64_t i) {
  return std::span(replicates_).subspan(static_cast<size_t>(i * draws_), static_cast<size_t>(draws_));
}

std::span<uint32_t> BootstrapMemory::counts(int thread) {
  return std::span(counts_).subspan(static_cast<size_t>(thread * sequences_),
                                    static_cast<size_t>(sequences_));
}

std::vector<Estimate> estimate_ratios(std::span<const std::span<const double>> quantities,
                                      std::span<const int64_t> tokens, const BootstrapOptions& options,
                                      BootstrapMemory& memory) {
  const size_t n = tokens.size(), m = quantities.size();
  for (const auto& values : quantities) DR_CHECK(values.size() == n);
  DR_CHECK(memory.sequences() == static_cast<int64_t>(n) && memory.draws() == options.draws);
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

  for (size_t first = 0; first < m; first += static_cast<size_t>(memory.group())) {
    const size_t size = std::min(static_cast<size_t>(memory.group()), m - first);
#pragma omp parallel num_threads(memory.threads())
    {
      const std::span<uint32_t> counts = memory.counts(omp_get_thread_num());
#pragma omp for schedule(static)
      for (int64_t draw = 0; draw < options.draws; ++draw) {
        bootstrap_counts(options.seed, draw, counts);
        const double drawn = resampled_sum(counts, weights);
        for (size_t i = 0; i < size; ++i)
          memory.replicates(static_cast<int64_t>(i))[static_cast<size_t>(draw)] =
              drawn > 0 ? resampled_sum(counts, quantities[first + i]) / drawn : kNan;
      }
    }
    for (size_t i = 0; i < size; ++i)
      summarize(memory.replicates(static_cast<int64_t>(i)), options.alpha, estimates[first + i]);
  }
  return estimates;
}

std::vector<Estimate> estimate_ratios(std::span<const std::vector<double>> quantities,
                                      std::span<const int64_t> tokens, const BootstrapOptions& options) {
  const std::vector<std::span<const double>> views(quantities.begin(), quantities.end());
  BootstrapMemory memory(options.draws, static_cast<int64_t>(tokens.size()),
                         static_cast<int64_t>(views.size()));
  return estimate_ratios(views, tokens, options, memory);
}

}  // namespace depthroute
