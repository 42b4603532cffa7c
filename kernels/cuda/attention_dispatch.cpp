// Chooses the attention kernels: the library's fused ones if it has a plan for the shape, otherwise our own.
// The choice is made once per shape and dtype and holds for workspace, forward and backward.
#include <algorithm>
#include <map>
#include <mutex>
#include <string>
#include <tuple>

#include "kernels/cuda/attention_plain.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/fused_attention.h"
#include "kernels/cuda/libraries.h"
#include "kernels/op_table.h"

namespace depthroute::cuda {
namespace {

// Evaluation uses the same plans, so that it computes with the same kernels as training.
constexpr bool kTraining = true;

bool use_fused(DType act, const AttentionShape& s) {
  static std::mutex mutex;
  static std::map<std::tuple<DType, int64_t, int64_t, int64_t, int64_t, int64_t, bool>, bool> choices;
  const std::lock_guard lock(mutex);
  const auto [choice, is_new] = choices.try_emplace(
      {act, s.batch, s.seq_len, s.num_heads, s.num_kv_heads, s.head_dim, s.deterministic});
  if (is_new) choice->second = fused_attention_supported(s, act, s.deterministic, kTraining);
  return choice->second;
}

int64_t floats(int64_t bytes) { return div_ceil(bytes, int64_t{sizeof(float)}); }

}  // namespace

std::string describe_attention() {
  const std::string library = fused_attention_name();
  if (library == "none") return "own kernels";
  return library + " for bf16 where it has a plan, else own kernels";
}

int64_t attention_workspace(Device, DType act, const AttentionShape& shape) {
  const int64_t plain = plain_attention_workspace(shape);
  if (use_fused(act, shape)) return floats(fused_attention_workspace(shape, shape.deterministic, kTraining));
  // Planning for a GPU that is not here, which may choose either.
  if (act == DType::bf16 && !unavailable().empty())
    return std::max(plain, floats(fused_attention_workspace_bound(shape, shape.deterministic, kTraining)));
  return plain;
}

void attention_forward(Stream stream, const AttentionShape& shape, const Tensor& q, const Tensor& k,
                       const Tensor& v, const Tensor& out, const Tensor& lse, const Tensor& workspace) {
  if (!use_fused(q.dtype, shape)) return plain_attention_forward(stream, shape, q, k, v, out, lse);
  fused_attention_forward(stream, shape, q, k, v, out, lse, workspace.pointer,
                          workspace.defined() ? workspace.bytes() : 0);
}

void attention_backward(Stream stream, const AttentionShape& shape, const Tensor& dout, const Tensor& q,
                        const Tensor& k, const Tensor& v, const Tensor& out, const Tensor& lse,
                        const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& workspace) {
  if (!use_fused(q.dtype, shape))
    return plain_attention_backward(stream, shape, dout, q, k, v, out, lse, dq, dk, dv, workspace);
  fused_attention_backward(stream, shape, shape.deterministic, dout, q, k, v, out, lse, dq, dk, dv,
                           workspace.pointer, workspace.defined() ? workspace.bytes() : 0);
}

}  // namespace depthroute::cuda
