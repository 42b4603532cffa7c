// The sum of what all ranks sent: small tensors, for
// kernels/collectives. Not an op: no other backend needs it.
#pragma once

#include "kernels/device.h"
#include "kernels/tensor.h"

namespace depthroute::cuda {

/// to [count] = sum of the rows of from [rows, count], in their order. f32 or f64, the same for both.
void sum_rows(Stream, const Tensor& from, const Tensor& to);

}  // namespace depthroute::cuda
