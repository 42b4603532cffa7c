// What every op in ops*.cpp does before its kernel runs: checks, then one switch over devices.
#pragma once

#include "kernels/cuda/kernels.h"
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

/// The type of the activations of a call, read off one of its tensors: f32, on cuda also bf16. Aborts naming
/// op and tensor if it is another.
DType activation_type(const char* op, const char* name, Stream stream, const Tensor& tensor);

/// Runs the kernel of the stream's device. A further backend is a further argument and a further case.
template <typename Cpu, typename Cuda>
void dispatch(Stream stream, const Cpu& on_cpu, const Cuda& on_cuda) {
  switch (stream.device) {
    case Device::cpu:
      return on_cpu();
    case Device::cuda:
      return on_cuda();
  }
}

}  // namespace depthroute::ops
