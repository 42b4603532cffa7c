// Which samples a step uses (train/model/SPEC.md §3): a function of seed, epoch and position only, in O(1)
// memory, so that a run can resume anywhere and on any number of ranks.
#pragma once

#include <cstdint>

#include "configs/terms.h"

namespace depthroute {

class Sampler {
 public:
  /// num_samples >= 1.
  Sampler(int64_t num_samples, DataOrder order, uint64_t seed);
  /// The sample of the stream at position `k` (0, 1, 2 ... over all epochs). Every epoch visits every sample
  /// once.
  int64_t sample(int64_t k) const;
  int64_t epoch(int64_t k) const { return k / num_samples_; }

 private:
  int64_t num_samples_;
  DataOrder order_;
  uint64_t seed_;
  int half_bits_;  // Feistel network over 2 * half_bits_ bits, walked until it lands below num_samples_
};

}  // namespace depthroute
