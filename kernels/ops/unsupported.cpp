#include <fmt/format.h>

#include "kernels/ops/ops.h"

namespace depthroute::ops {

// kMultiple: the CUDA kernels access 16 bytes (8 bf16 values) at a time. kMaxHidden: the widest row the
// routing kernels hold in registers. kMaxHeadDim: the largest head that fits a block's shared memory.
std::string unsupported(Device device, int64_t hidden_size, int64_t intermediate_size, int64_t head_dim) {
  if (device == Device::cpu) return "";
  constexpr int64_t kMultiple = 8, kMaxHidden = 32768, kMaxHeadDim = 256;
  const auto odd = [&](const char* name, int64_t value) {
    return fmt::format("{} = {} is not divisible by {}, as device: cuda needs", name, value, kMultiple);
  };
  if (hidden_size % kMultiple != 0) return odd("hidden_size", hidden_size);
  if (intermediate_size % kMultiple != 0) return odd("intermediate_size", intermediate_size);
  if (head_dim % kMultiple != 0) return odd("head_dim", head_dim);
  if (hidden_size > kMaxHidden)
    return fmt::format("hidden_size = {} is above {}, the most device: cuda computes", hidden_size,
                       kMaxHidden);
  if (head_dim > kMaxHeadDim)
    return fmt::format("head_dim = {} is above {}, the most device: cuda computes", head_dim, kMaxHeadDim);
  return "";
}

}  // namespace depthroute::ops
