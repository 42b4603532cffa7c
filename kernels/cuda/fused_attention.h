// Fused causal attention from a library: cuDNN through cudnn-frontend if the build found both
// (fused_attention_cudnn.cpp, the only file that includes them), otherwise none (fused_attention_none.cpp).
// The caller asks fused_attention_refusal() once per shape, and uses the kernels of attention.cu if it gives a
// reason.
//
// Letters as in ops.h: B sequences, T tokens each, H heads, G kv heads, K head_dim, N = B*T. All activations
// are bf16 and row-major [N, columns], head h at column h*K; scores and accumulation are float32.
//   out = softmax(q k^T / sqrt(K), causal) v     lse [B,H,T] f32 = natural log-sum-exp of the scaled scores
//
// A shape's plans are built when it is first asked about or used, which takes about a second each: do that
// before capturing a CUDA graph. After that, forward and backward only put work on the stream: they allocate
// no device memory and copy nothing from the host. Plans and the cuDNN handle belong to the calling thread
// and its current device.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/device.h"
#include "kernels/op_types.h"

namespace depthroute::cuda {

/// Returns why there is no library, or "": the program was built without it, or the first call, which opens it,
/// found none that can be used (cudnn_library.h). Never asks for a GPU.
const std::string& fused_attention_absent();

/// Returns the version that runs, e.g. 91900 for cuDNN 9.19.0; 0 if there is none.
int fused_attention_version();

/// Returns e.g. "cuDNN 9.19.0 (cudnn-frontend 1.23.0)", for logs and results, or "none".
std::string fused_attention_name();

/// Returns why the current device has no plans for this shape, forward and, if `training`, also backward; or "".
/// Without a device there are none. `deterministic` asks for a backward pass that gives the same bits every time
/// (the forward pass always does); only compute capabilities 9.x and 10.x have one, and on 9.x its workspace
/// grows with T^2. Only bf16 is ever supported.
std::string fused_attention_refusal(const AttentionShape&, DType, bool deterministic, bool training);

/// Returns the bytes of scratch that forward (and backward, if `training`) need: exact, from the current
/// device's plans (0 if it has none); without a device, fused_attention_workspace_bound(). 0 in builds
/// without the library.
int64_t fused_attention_workspace(const AttentionShape&, bool deterministic, bool training);

/// Returns an upper bound of fused_attention_workspace() for devices of compute capability 8.0 and 9.0. Needs
/// no device.
int64_t fused_attention_workspace_bound(const AttentionShape&, bool deterministic, bool training);

/// q, out [N,H*K] and k [N,G*K] dense, v [N,G*K] with any row stride that is a multiple of 8; all bf16 and
/// 16-byte aligned. lse [B,H,T] f32. `workspace`: device memory, 256-byte aligned, of at least
/// fused_attention_workspace() bytes for this shape. Throws SystemError with cuDNN's message, or if the plan needs
/// more (another stride of v).
void fused_attention_forward(Stream, const AttentionShape&, const Tensor& q, const Tensor& k, const Tensor& v,
                             const Tensor& out /*=*/, const Tensor& lse /*=*/, void* workspace,
                             int64_t workspace_bytes);

/// dout, dq [N,H*K] and dk [N,G*K] dense, dv [N,G*K] with any row stride that is a multiple of 8; the rest as
/// in forward.
void fused_attention_backward(Stream, const AttentionShape&, bool deterministic, const Tensor& dout,
                              const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
                              const Tensor& lse, const Tensor& dq /*=*/, const Tensor& dk /*=*/,
                              const Tensor& dv /*=*/, void* workspace, int64_t workspace_bytes);

/// Returns the plan that an absent device would get, for tests. `properties` is cuDNN's own JSON of a device
/// (cudnn_backend.h: CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION), `sm` its compute capability times 10.
struct FusedAttentionPlan {
  bool available = false;
  int64_t workspace_bytes = 0;
  std::string detail;  // cuDNN's name of the plan, or why there is none
};
FusedAttentionPlan fused_attention_plan(const std::string& properties, int sm, const AttentionShape&,
                                        bool backward, bool deterministic);

}  // namespace depthroute::cuda
