// Causal grouped-query attention without tensor cores: float32 arithmetic on the CUDA cores, any head_dim up
// to 256 that is a multiple of 8, any sequence length, the same bits every time. Arguments as in
// kernels/ops/ops.h.
#pragma once

#include <cstdint>

#include "kernels/device.h"
#include "kernels/op_types.h"

namespace depthroute::cuda {

inline constexpr int64_t kPlainAttentionMaxHeadDim = 256;

/// Floats: one per query and head, for the backward pass.
int64_t plain_attention_workspace(const AttentionShape&);

void plain_attention_forward(Stream, const AttentionShape&, const Tensor& q, const Tensor& k, const Tensor& v,
                             const Tensor& out, const Tensor& lse);

void plain_attention_backward(Stream, const AttentionShape&, const Tensor& dout, const Tensor& q,
                              const Tensor& k, const Tensor& v, const Tensor& out, const Tensor& lse,
                              const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& workspace);

}  // namespace depthroute::cuda
