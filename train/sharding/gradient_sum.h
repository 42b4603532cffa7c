// Sums the gradient of a step. Its micro-batches are dealt to P slices (TrainingStep); a rank sums its own
// slices in a pairwise tree as they come, then the sums of all ranks are added, bucket by bucket while the
// last backward pass still runs. Slice p is the same number whichever rank computes it, and so is ((g0 + g1)
// + (g2 + g3)) + ...: the result has the same bits on any number of ranks that divides P (collectives.h:
// deterministic).
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/arena.h"
#include "kernels/collectives/collectives.h"
#include "train/model/parameters.h"
#include "train/sharding/partition.h"

namespace depthroute {

class GradientSum {
 public:
  /// Plans in `arena`: a block for every level of the tree below this rank's sum, log2(slices) of them, and
  /// the exchange's scratch.
  GradientSum(const ParameterLayout& layout, const Partition& partition, Collectives& collectives,
              Arena& arena);
  GradientSum(const GradientSum&) = delete;
  GradientSum& operator=(const GradientSum&) = delete;

  /// Takes slice `index` (0, 1 ... of this rank, all but the last) from `gradients`, which may be used again
  /// afterwards.
  void take(Stream stream, int index, const Tensor& gradients);
  /// Says that [begin, matrices_size) of the last slice is final; begin = 0: all of it. Adds what was taken
  /// and starts the exchange of buckets that are complete.
  void complete(Stream stream, int64_t begin, const Tensor& gradients);
  /// The buckets in the order of their exchange: those of layers as the backward pass completes them, then
  /// norms, pseudo-queries and biases, and the embedding last, whose gradient is complete last if it is also
  /// the head.
  const std::vector<int>& order() const { return order_; }
  /// Waits on `stream` until this rank's pieces of a bucket hold the sum over all slices. After complete(0).
  void wait(Stream stream, int bucket);

 private:
  void add_taken(Stream stream, int levels, const Tensor& gradients, const Range& range);

  const Partition& partition_;
  Collectives& collectives_;
  int64_t matrices_size_;
  std::vector<int> order_;  // buckets in the order the backward pass completes them
  size_t next_ = 0;         // of order_
  std::vector<Collectives::Ticket> tickets_;
  std::vector<Tensor> taken_;  // [level] sums of 2^level slices
  Tensor workspace_;
};

}  // namespace depthroute
