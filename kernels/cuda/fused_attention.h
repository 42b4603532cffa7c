// Fused causal attention from a library: cuDNN through cudnn-frontend where the build found both
// (fused_attention_cudnn.cpp, the only file that includes them), else nothing (fused_attention_none.cpp).
// The caller asks fused_attention_supported() once per shape and otherwise uses the kernels of attention.cu.
//
// Letters as in ops.h: B sequences, T tokens each, H heads, G kv heads, K head_dim, N = B*T. All activations
// are bf16 and row-major [N, columns], head h at column h*K; scores and accumulation are float32.
//   out = softmax(q k^T / sqrt(K), causal) v     lse [B,H,T] f32 = natural log-sum-exp of the scaled scores
//
// Plans are built at the first question about (or use of) a shape, about a second each: ask before a CUDA
// graph is captured. Afterwards forward and backward only put work on the stream: no device memory is
// allocated, nothing is copied from the host. Plans and the cuDNN handle belong to the calling thread and its
// current device.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/ops/ops.h"

namespace depthroute::cuda {

/// For logs and results: "cuDNN 9.19.0 (cudnn-frontend 1.23.0)", or "none".
const char* fused_attention_name();

/// Whether the current device has plans for this shape: forward, and backward too where `training`.
/// `deterministic`: the backward pass gives the same bits every time (the forward pass always does), on
/// compute capability 9.x and 10.x, and on 9.x for a workspace that grows with T^2. Only bf16 is ever
/// supported; false where there is no device.
bool fused_attention_supported(const ops::AttentionShape&, DType, bool deterministic, bool training);

/// Bytes of scratch that forward (and backward, where `training`) need: exact, from the plans of the current
/// device (0 if it has none); fused_attention_workspace_bound() on a machine without a device. 0 in builds
/// without.
int64_t fused_attention_workspace(const ops::AttentionShape&, bool deterministic, bool training);

/// What fused_attention_workspace() does not exceed on any device of compute capability 8.0 or 9.0, known
/// without one.
int64_t fused_attention_workspace_bound(const ops::AttentionShape&, bool deterministic, bool training);

/// q, out [N,H*K] and k [N,G*K] dense, v [N,G*K] with any row stride that is a multiple of 8; all bf16 and
/// 16-byte aligned. lse [B,H,T] f32. `workspace`: device memory, 256-byte aligned, of at least
/// fused_attention_workspace() bytes. Throws SystemError with cuDNN's message.
void fused_attention_forward(Stream, const ops::AttentionShape&, const Tensor& q, const Tensor& k,
                             const Tensor& v, const Tensor& out /*=*/, const Tensor& lse /*=*/,
                             void* workspace, int64_t workspace_bytes);

/// dout, dq [N,H*K] and dk [N,G*K] dense, dv [N,G*K] with any row stride that is a multiple of 8; the rest as
/// forward had it.
void fused_attention_backward(Stream, const ops::AttentionShape&, bool deterministic, const Tensor& dout,
                              const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
                              const Tensor& lse, const Tensor& dq /*=*/, const Tensor& dk /*=*/,
                              const Tensor& dv /*=*/, void* workspace, int64_t workspace_bytes);

/// The plan that a device which is not here would get: for tests. `properties` is cuDNN's own JSON of a
/// device (cudnn_backend.h: CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION), `sm` its compute capability times 10.
struct FusedAttentionPlan {
  bool available = false;
  int64_t workspace_bytes = 0;
  std::string detail;  // cuDNN's name of the plan, or why there is none
};
FusedAttentionPlan fused_attention_plan(const std::string& properties, int sm, const ops::AttentionShape&,
                                        bool backward, bool deterministic);

}  // namespace depthroute::cuda
