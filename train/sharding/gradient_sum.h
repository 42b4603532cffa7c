// The sum of a step's parts of the gradient: a process's own parts in a pairwise tree as they come, then over
// processes, bucket by bucket while the last backward pass still runs. With P parts, part p of the whole is
// the same number whoever computed it, and so is ((g0 + g1) + (g2 + g3)) + ...: the result has the same bits
// on any number of processes that divides P (collectives.h: deterministic).
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
  /// Plans in `arena`: a block for every level of the tree below this process's sum, log2(parts) of them, and
  /// the exchange's scratch.
  GradientSum(const ParameterLayout& layout, const Partition& partition, Collectives& collectives,
              Arena& arena);
  GradientSum(const GradientSum&) = delete;
  GradientSum& operator=(const GradientSum&) = delete;

  /// `gradients` holds part `index` (0, 1 ... of this process), but not the last: it is taken, and
  /// `gradients` may be used again.
  void take(Stream stream, int index, const Tensor& gradients);
  /// Of the last part, the block's [begin, matrices_size) is final; begin = 0: all of it. Adds what was taken
  /// and starts the exchange of buckets that are complete.
  void complete(Stream stream, int64_t begin, const Tensor& gradients);
  /// After complete(0): this process's pieces of a bucket hold the sum over all parts, on `stream`.
  void wait(Stream stream, int bucket);

 private:
  void add_taken(Stream stream, int levels, const Tensor& gradients, const Range& range);

  const Partition& partition_;
  Collectives& collectives_;
  int64_t matrices_size_;
  std::vector<int> order_;  // buckets in the order the backward pass completes them
  size_t next_ = 0;         // of order_
  std::vector<Collectives::Ticket> tickets_;
  std::vector<Tensor> taken_;  // [level] sums of 2^level parts
  Tensor workspace_;
};

}  // namespace depthroute
