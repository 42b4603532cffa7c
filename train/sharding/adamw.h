// AdamW over the ranges of the parameter block that this rank owns (train/model/SPEC.md §3; ZeRO-1). Moments
// exist for those ranges only: OwnedRange::at says where in m() and v().
#pragma once

#include <cstdint>
#include <vector>

#include "configs/train_config.h"
#include "kernels/arena.h"
#include "kernels/device.h"
#include "train/model/parameters.h"
#include "train/sharding/partition.h"

namespace depthroute {

/// Elements [begin, end) of the block, all with or all without weight decay.
struct DecayRange {
  int64_t begin, end;
  bool decay;
  bool operator==(const DecayRange&) const = default;
};
/// The fewest ranges that cover the whole block in order. Padding belongs to the parameter before it: value
/// and gradient are zero, so it stays zero with and without decay.
std::vector<DecayRange> decay_ranges(const ParameterLayout& layout);

class AdamW {
 public:
  /// Plans both moments in `arena`, which must outlive this object.
  AdamW(const OptimizerConfig& config, const ParameterLayout& layout, const Partition& partition,
        Arena& arena);
  AdamW(const AdamW&) = delete;
  AdamW& operator=(const AdamW&) = delete;

  /// What decides whether a step is applied, on the device.
  struct Decision {
    Tensor loss;  // [1] f64
    Tensor norm;  // [1] f32: of the whole gradient
  };
  /// Applies step t (1-based) to the range of a bucket that this rank owns; changes nothing if loss or norm
  /// is not finite. `compute`: the bf16 copy of the matrices, or undefined.
  void update(Stream stream, int64_t t, double lr, int bucket, const Decision& decision,
              const Tensor& gradients, const Tensor& parameters, const Tensor& compute);

  Tensor m() const { return m_; }  // [partition.shard_size()] f32
  Tensor v() const { return v_; }

 private:
  OptimizerConfig config_;
  std::vector<DecayRange> ranges_;
  Partition partition_;
  Tensor m_, v_;
};

}  // namespace depthroute
