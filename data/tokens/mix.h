// Which source a position of a mixed stream draws from, and which of that source's draws it is
// (train/model/SPEC.md §3): a function of the weights and the position alone, so that a run can resume anywhere
// and on any number of ranks.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace depthroute {

/// Of K sources with weights w_i that sum to 1, each gets its share of every prefix to within one draw: of
/// the first n positions, source i has n w_i ± (1 - 1 / (2K - 2)); exactly n w_i after every whole cycle.
/// Holds 6 bytes per position of a cycle.
class Mix {
 public:
  struct Draw {
    int64_t source = 0;
    int64_t number = 0;  // 0, 1, 2 ... within the source
  };

  /// `parts`: the weights as whole numbers, each >= 1; their sum, the length of a cycle, is at most 2^20. At
  /// most kMostSources of them.
  explicit Mix(std::span<const int64_t> parts);
  static constexpr int64_t kMostSources = 1000;

  int64_t num_sources() const { return static_cast<int64_t>(slots_.size()); }
  /// What position `k` (0, 1, 2 ...) draws. O(log cycle).
  Draw at(int64_t k) const;
  /// How many of the first `n` positions draw from `source`.
  int64_t draws(int64_t source, int64_t n) const;

 private:
  std::vector<uint16_t> source_;              // of each position of a cycle
  std::vector<std::vector<uint32_t>> slots_;  // of each source, its positions in a cycle, ascending
};

}  // namespace depthroute
