// For builds without cuDNN or without cudnn-frontend.
#include "kernels/cuda/fused_attention.h"

namespace depthroute::cuda {
namespace {

constexpr const char* kAbsent = "this build has no fused attention; ask fused_attention_refusal() first";

}  // namespace

const std::string& fused_attention_absent() {
  static const std::string reason = "this program was built without cuDNN";
  return reason;
}

int fused_attention_version() { return 0; }

std::string fused_attention_name() { return "none"; }

std::string fused_attention_refusal(const AttentionShape&, DType, bool, bool) {
  return fused_attention_absent();
}

int64_t fused_attention_workspace(const AttentionShape&, bool, bool) { return 0; }

int64_t fused_attention_workspace_bound(const AttentionShape&, bool, bool) { return 0; }

void fused_attention_forward(Stream, const AttentionShape&, const Tensor&, const Tensor&, const Tensor&,
                             const Tensor&, const Tensor&, void*, int64_t) {
  DR_CHECK_MSG(false, kAbsent);
}

void fused_attention_backward(Stream, const AttentionShape&, bool, const Tensor&, const Tensor&,
                              const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                              const Tensor&, const Tensor&, void*, int64_t) {
  DR_CHECK_MSG(false, kAbsent);
}

FusedAttentionPlan fused_attention_plan(const std::string&, int, const AttentionShape&, bool, bool) {
  return {false, 0, "this build has no fused attention"};
}

}  // namespace depthroute::cuda
