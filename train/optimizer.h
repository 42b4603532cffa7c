// AdamW over the parameter block (SPEC §3). Both moments have the layout of the parameters, so one
// parameter's moments are layout.view(m(), parameter).
#pragma once

#include <cstdint>
#include <vector>

#include "configs/train_config.h"
#include "kernels/arena.h"
#include "kernels/device.h"
#include "train/model/parameters.h"

namespace depthroute {

/// Elements [begin, end) of the block that share one rule of weight decay.
struct DecayRange {
  int64_t begin, end;
  bool decay;
  bool operator==(const DecayRange&) const = default;
};
/// The fewest ranges that cover the whole block in order. Padding belongs to the parameter before it: its
/// gradient is zero and so is its value, hence it stays zero under either rule.
std::vector<DecayRange> decay_ranges(const ParameterLayout& layout);

class AdamW {
 public:
  /// Plans both moments in `arena`, which must outlive this object.
  AdamW(const OptimizerConfig& config, const ParameterLayout& layout, Arena& arena);
  AdamW(const AdamW&) = delete;
  AdamW& operator=(const AdamW&) = delete;

  /// L2 norm of the whole gradient block, kept on the device for update().
  void measure(Stream stream, const Tensor& gradients);
  Tensor norm() const { return norm_; }  // [1] f32 of the last measure()
  /// Update of step t (1-based) with the norm of the last measure(); nothing where it or `loss` ([1] f64, on
  /// the device) is not finite. `compute`: the bf16 copy of the matrices, or undefined.
  void update(Stream stream, int64_t t, double lr, const Tensor& loss, const Tensor& gradients,
              const Tensor& parameters, const Tensor& compute);

  Tensor m() const { return m_; }  // [layout.block_size()] f32
  Tensor v() const { return v_; }

 private:
  OptimizerConfig config_;
  std::vector<DecayRange> ranges_;
  Tensor m_, v_, norm_, workspace_;
};

}  // namespace depthroute
