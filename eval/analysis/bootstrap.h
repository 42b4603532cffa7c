// Estimates with intervals, from sums per unit (eval/SPEC.md §5): units are documents, called sequences below.
// The estimate is a ratio of sums, weighted by tokens; the interval is a percentile bootstrap over units, with
// the same draws for every quantity, so that differences between cells are paired. Units are taken as
// independent.
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

/// Counts how often each of counts.size() sequences is in draw `draw`. The i-th pick depends on (seed, draw,
/// i) only, so nothing depends on threads or on which quantities are resampled.
void bootstrap_counts(uint64_t seed, int64_t draw, std::span<uint32_t> counts);

/// The memory of the bootstrap, taken before anything is measured, so that too many draws are refused at the
/// start and not after hours. Keeps replicates for one group of quantities at a time, as many as fit into
/// `group_bytes` but at least one, so that it does not grow with the number of cells.
class BootstrapMemory {
 public:
  static constexpr int64_t kGroupBytes = int64_t{256} << 20;
  static int64_t bytes(int64_t draws, int64_t sequences, int64_t quantities,
                       int64_t group_bytes = kGroupBytes);

  /// SystemError naming statistics.bootstrap if there is too little memory.
  BootstrapMemory(int64_t draws, int64_t sequences, int64_t quantities, int64_t group_bytes = kGroupBytes);
  int64_t draws() const { return draws_; }
  int64_t sequences() const { return sequences_; }
  int64_t group() const { return group_; }  // quantities at a time
  int threads() const { return threads_; }
  /// Returns the replicates of the i-th quantity of a group, by draw.
  std::span<double> replicates(int64_t i);
  /// Returns one thread's counts: how often each sequence is in a draw.
  std::span<uint32_t> counts(int thread);

 private:
  int64_t draws_, sequences_, group_;
  int threads_;
  std::vector<double> replicates_;
  std::vector<uint32_t> counts_;
};

/// Returns one estimate per quantity. Each quantity, like `tokens`, has one value per sequence, and `memory`
/// is for these draws and sequences (programmer error otherwise). Grouping quantities changes no bit.
std::vector<Estimate> estimate_ratios(std::span<const std::span<const double>> quantities,
                                      std::span<const int64_t> tokens, const BootstrapOptions& options,
                                      BootstrapMemory& memory);
/// The same, with memory of its own.
std::vector<Estimate> estimate_ratios(std::span<const std::vector<double>> quantities,
                                      std::span<const int64_t> tokens, const BootstrapOptions& options);

/// Returns NaN throughout, for a cell that did not run.
Estimate missing_estimate();

/// Returns the q-quantile of sorted values, linear between neighbours (numpy's default).
double sorted_quantile(std::span<const double> sorted, double q);

}  // namespace depthroute
