// Argument checks of the ops in this folder. They abort: a wrong argument is a programmer error.
#pragma once

#include "kernels/ops/ops.h"

namespace depthroute::ops {

/// Aborts naming op and tensor unless `tensor` is defined, contiguous, of this shape and type, on the
/// stream's device.
void require(const char* op, const char* name, Stream stream, const Tensor& tensor, const Shape& shape,
             DType dtype = DType::f32);
/// The same for a rank-2 tensor whose rows may be further apart than their length.
void require_strided(const char* op, const char* name, Stream stream, const Tensor& tensor, int64_t rows,
                     int64_t cols, DType dtype = DType::f32);
/// Scratch: float32, at least this many values.
void require_workspace(const char* op, Stream stream, const Tensor& tensor, int64_t floats);

/// Returns the dtype of a call's activations, taken from one of its tensors: f32, on cuda also bf16. Aborts
/// naming op and tensor if it is another.
DType activation_type(const char* op, const char* name, Stream stream, const Tensor& tensor);

}  // namespace depthroute::ops
