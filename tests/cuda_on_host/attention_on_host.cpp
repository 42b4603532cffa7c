// The emulated device's cuDNN, in place of kernels/cuda/fused_attention_cudnn.cpp: absent unless the environment has
// CUDA_ON_HOST_CUDNN=<version> (91900 is 9.19.0). It computes with the plain kernels, so results are the same bits; what
// it adds is what a library does to its caller: scratch that is larger for smaller batches and is really used, and up to
// 9.15 a copy from the host in the backward pass where T is not a multiple of 128.
#include <fmt/format.h>

#include <cstdlib>

#include "kernels/cuda/attention_plain.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/fused_attention.h"
#include "kernels/cuda/fused_attention_rules.h"
#include "kernels/cuda/libraries.h"

namespace depthroute::cuda {
namespace {

int chosen_version() {
  const char* version = std::getenv("CUDA_ON_HOST_CUDNN");
  return version ? std::atoi(version) : 0;
}

int64_t scratch_bytes(const AttentionShape& shape) { return (int64_t{8} << 20) / shape.batch; }

void use_scratch(Stream stream, const AttentionShape& shape, void* workspace, int64_t workspace_bytes) {
  check_fused_workspace(fmt::format("attention of {} x {} tokens", shape.batch, shape.seq_len),
                        scratch_bytes(shape), workspace_bytes);
  DR_CUDA_CHECK(cudaMemsetAsync(workspace, 0xff, static_cast<size_t>(scratch_bytes(shape)), handle(stream)));
}

}  // namespace

void load_kernels() {}  // they are functions of this program

int64_t num_kernels() { return 0; }

const std::string& fused_attention_absent() {
  static const std::string reason =
      chosen_version() == 0 ? "there is no cuDNN" : fused_version_refusal(chosen_version());
  return reason;
}

int fused_attention_version() { return fused_attention_absent().empty() ? chosen_version() : 0; }

std::string fused_attention_name() {
  return fused_attention_absent().empty() ? "emulated cuDNN " + fused_version_text(chosen_version()) : "none";
}

std::string fused_attention_refusal(const AttentionShape&, DType dtype, bool, bool) {
  return dtype == DType::bf16 ? fused_attention_absent() : "bf16 only";
}

int64_t fused_attention_workspace(const AttentionShape& shape, bool, bool) {
  return fused_attention_absent().empty() ? scratch_bytes(shape) : 0;
}

int64_t fused_attention_workspace_bound(const AttentionShape&, bool, bool) { return 0; }

void fused_attention_forward(Stream stream, const AttentionShape& shape, const Tensor& q, const Tensor& k,
                             const Tensor& v, const Tensor& out, const Tensor& lse, void* workspace,
                             int64_t workspace_bytes) {
  use_scratch(stream, shape, workspace, workspace_bytes);
  plain_attention_forward(stream, shape, q, k, v, out, lse);
}

void fused_attention_backward(Stream stream, const AttentionShape& shape, bool, const Tensor& dout,
                              const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
                              const Tensor& lse, const Tensor& dq, const Tensor& dk, const Tensor& dv,
                              void* workspace, int64_t workspace_bytes) {
  use_scratch(stream, shape, workspace, workspace_bytes);
  const int32_t padding = 0;
  if (fused_backward_copies_from_host(fused_attention_version(), shape.seq_len))  // refused while recording
    DR_CUDA_CHECK(cudaMemcpy(workspace, &padding, sizeof(padding), cudaMemcpyHostToDevice));
  const Tensor rows{workspace, Shape{plain_attention_workspace(shape)}, DType::f32, Device::cuda};
  plain_attention_backward(stream, shape, dout, q, k, v, out, lse, dq, dk, dv, rows);
}

}  // namespace depthroute::cuda
