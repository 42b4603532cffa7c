// Chooses the attention kernels: the library's fused ones if it has a plan for the shape, otherwise our own.
// The choice is made once per shape and dtype and holds for workspace, forward and backward.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <string>
#include <tuple>

#include "kernels/cuda/attention_plain.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/fused_attention.h"
#include "kernels/cuda/fused_attention_rules.h"
#include "kernels/cuda/libraries.h"
#include "kernels/op_table.h"

namespace depthroute::cuda {
namespace {

// Evaluation uses the same plans, so that it computes with the same kernels as training.
constexpr bool kTraining = true;

/// Returns why the library is not used for a shape, or "".
const std::string& refusal(DType act, const AttentionShape& s) {
  static std::mutex mutex;
  static std::map<std::tuple<DType, int64_t, int64_t, int64_t, int64_t, int64_t, bool>, std::string> refusals;
  const std::lock_guard lock(mutex);
  const std::tuple key{act, s.batch, s.seq_len, s.num_heads, s.num_kv_heads, s.head_dim, s.deterministic};
  if (const auto known = refusals.find(key); known != refusals.end()) return known->second;
  return refusals[key] = fused_attention_refusal(s, act, s.deterministic, kTraining);
}

bool use_fused(DType act, const AttentionShape& shape) { return refusal(act, shape).empty(); }

int64_t floats(int64_t bytes) { return div_ceil(bytes, int64_t{sizeof(float)}); }

}  // namespace

std::string describe_attention() {
  if (!fused_attention_absent().empty()) return fmt::format("own kernels ({})", fused_attention_absent());
  return fused_attention_name() + " for bf16 where it has a plan, else own kernels";
}

AttentionNotes attention_notes(Device, DType act, const AttentionShape& shape) {
  AttentionNotes notes;
  if (act != DType::bf16 || !unavailable().empty()) return notes;
  if (!use_fused(act, shape)) {
    notes.slow =
        "attention runs on this program's own kernels, which are several times slower than cuDNN's: " +
        refusal(act, shape);
  } else if (const int version = fused_attention_version();
             fused_backward_copies_from_host(version, shape.seq_len)) {
    notes.unrecordable = fmt::format(
        "cuDNN {} copies from the host in attention's backward pass because {} tokens are not a multiple of 128",
        fused_version_text(version), shape.seq_len);
  }
  return notes;
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
  if (!use_fused(q.dtype, shape)) {
    DR_CHECK(workspace.defined() && workspace.numel() >= plain_attention_workspace(shape));
    return plain_attention_backward(stream, shape, dout, q, k, v, out, lse, dq, dk, dv, workspace);
  }
  fused_attention_backward(stream, shape, shape.deterministic, dout, q, k, v, out, lse, dq, dk, dv,
                           workspace.pointer, workspace.defined() ? workspace.bytes() : 0);
}

}  // namespace depthroute::cuda
