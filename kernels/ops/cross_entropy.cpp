#include "kernels/op_table.h"
#include "kernels/ops/checks.h"
#include "kernels/profile.h"

namespace depthroute::ops {

int64_t cross_entropy_workspace(Device device, DType act, int64_t tokens, int64_t vocab_size) {
  return op_table(device).cross_entropy_workspace(device, act, tokens, vocab_size);
}

void cross_entropy(Stream stream, const Tensor& hidden, const Tensor& head, const Tensor& targets,
                   float grad_scale, const Tensor& nll, const Tensor& dhidden, const Tensor& dhead,
                   const Tensor& workspace) {
  const ProfileScope profile("cross_entropy");
  constexpr const char* kOp = "cross_entropy";
  const int64_t n = hidden.rows();
  const int64_t d = hidden.cols();
  const int64_t vocab = head.rows();
  const DType act = activation_type(kOp, "hidden", stream, hidden);
  require(kOp, "hidden", stream, hidden, {n, d}, act);
  require(kOp, "head", stream, head, {vocab, d}, act);
  require(kOp, "targets", stream, targets, {n}, DType::i32);
  require(kOp, "nll", stream, nll, {n});
  if (dhidden.defined()) require(kOp, "dhidden", stream, dhidden, {n, d}, act);
  if (dhead.defined()) require(kOp, "dhead", stream, dhead, {vocab, d});
  DR_CHECK_MSG(dhidden.defined() || !dhead.defined(),
               "cross_entropy: dhead is only computed along with dhidden");
  require_workspace(kOp, stream, workspace, cross_entropy_workspace(stream.device, act, n, vocab));
  op_table(stream.device)
      .cross_entropy(stream, hidden, head, targets, grad_scale, nll, dhidden, dhead, workspace);
}

int64_t cross_entropy_compare_workspace(Device device, DType act, int64_t tokens, int64_t vocab_size) {
  return op_table(device).cross_entropy_compare_workspace(device, act, tokens, vocab_size);
}

void cross_entropy_compare(Stream stream, const Tensor& clean, const Tensor& hidden, const Tensor& head,
                           const Tensor& targets, const Tensor& nll, const Tensor& kl, const Tensor& flipped,
                           const Tensor& hit, const Tensor& workspace) {
  const ProfileScope profile("cross_entropy_compare");
  constexpr const char* kOp = "cross_entropy_compare";
  const int64_t n = clean.rows(), compared = hidden.rows();
  const int64_t d = hidden.cols();
  const int64_t vocab = head.rows();
  const DType act = activation_type(kOp, "hidden", stream, hidden);
  DR_CHECK_MSG(n > 0 && compared % n == 0, "cross_entropy_compare: hidden has a multiple of clean's rows");
  require(kOp, "clean", stream, clean, {n, d}, act);
  require(kOp, "hidden", stream, hidden, {compared, d}, act);
  require(kOp, "head", stream, head, {vocab, d}, act);
  require(kOp, "targets", stream, targets, {n}, DType::i32);
  require(kOp, "nll", stream, nll, {compared});
  require(kOp, "kl", stream, kl, {compared});
  require(kOp, "flipped", stream, flipped, {compared}, DType::i32);
  require(kOp, "hit", stream, hit, {compared}, DType::i32);
  require_workspace(kOp, stream, workspace, cross_entropy_compare_workspace(stream.device, act, n, vocab));
  op_table(stream.device)
      .cross_entropy_compare(stream, clean, hidden, head, targets, nll, kl, flipped, hit, workspace);
}

}  // namespace depthroute::ops
