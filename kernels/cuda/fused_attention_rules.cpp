#include "kernels/cuda/fused_attention_rules.h"

#include "configs/base/error.h"

namespace depthroute::cuda {
namespace {

constexpr int kOldest = 91100;  // first without known faults in the backward pass (9.10.0, 9.10.1)
constexpr int kLastThatMasksPadding = 91500;  // scaled_dot_product_flash_attention.h of cudnn-frontend
constexpr int64_t kTile = 128;

}  // namespace

std::string fused_version_text(int version) {
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

std::string fused_version_refusal(int version) {
  if (version >= kOldest) return "";
  return fmt::format("cuDNN {} is too old: {} is needed", fused_version_text(version),
                     fused_version_text(kOldest));
}

bool fused_backward_copies_from_host(int version, int64_t seq_len) {
  return version > 0 && version <= kLastThatMasksPadding && seq_len % kTile != 0;
}

void check_fused_workspace(const std::string& what, int64_t needed, int64_t given) {
  if (needed <= given) return;
  throw SystemError(
      "cuDNN needs {} bytes of scratch for {}, more than the {} that were planned from the batch sizes known at the "
      "start: choose sizes that train.micro_batch divides (train.global_batch, validate.sequences, an evaluation's "
      "data.sequences)",
      needed, what, given);
}

}  // namespace depthroute::cuda
