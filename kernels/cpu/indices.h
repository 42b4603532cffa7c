// Token and target indices, checked before they address memory.
#pragma once

#include <cstdint>

#include "configs/base/check.h"
#include "kernels/tensor.h"

namespace depthroute::cpu {

/// Returns the indices. Aborts unless low <= index < high
/// for all of them: files have been validated long before.
inline const int32_t* checked_indices(const Tensor& indices, int64_t low, int64_t high) {
  const int32_t* const index = indices.data<int32_t>();
  bool bad = false;
  for (int64_t i = 0; i < indices.numel(); ++i) bad |= index[i] < low || index[i] >= high;
  DR_CHECK_MSG(!bad, "a token or target is outside the vocabulary");
  return index;
}

}  // namespace depthroute::cpu
