// The operations of a Qwen3 layer but attention: embedding, norms, RoPE, SwiGLU, output head.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/reduce.h"
#include "kernels/op_checks.h"
#include "kernels/ops.h"
#include "kernels/profile.h"

namespace depthroute::ops {

// One size for every device: the largest any backend asks for.
int64_t reduction_workspace(int64_t columns) { return cpu::reduction_workspace(columns); }

void embedding_forward(Stream stream, const Tensor& tokens, const Tensor& table, const Tensor& out) {
  const ProfileScope profile("embedding_forward");
  constexpr const char* kOp = "embedding_forward";
  const int64_t n = out.rows();
  const int64_t d = out.cols();
  require(kOp, "tokens", stream, tokens, {n}, DType::i32);
  require(kOp, "table", stream, table, {table.rows(), d});
  require(kOp, "out", stream, out, {n, d});
  dispatch(stream, [&] {
    cpu::check_indices(n, tokens.data<int32_t>(), 0, table.rows());
    cpu::embedding_forward(n, d, tokens.data<int32_t>(), table.data<float>(), out.data<float>());
  });
}

void embedding_backward(Stream stream, const Tensor& tokens, const Tensor& dout, const Tensor& dtable) {
  const ProfileScope profile("embedding_backward");
  constexpr const char* kOp = "embedding_backward";
  const int64_t n = dout.rows();
  const int64_t d = dout.cols();
  require(kOp, "tokens", stream, tokens, {n}, DType::i32);
  require(kOp, "dout", stream, dout, {n, d});
  require(kOp, "dtable", stream, dtable, {dtable.rows(), d});
  dispatch(stream, [&] {
    cpu::check_indices(n, tokens.data<int32_t>(), 0, dtable.rows());
    cpu::embedding_backward(n, d, tokens.data<int32_t>(), dout.data<float>(), dtable.data<float>());
  });
}

void rms_norm_forward(Stream stream, const Tensor& x, const Tensor& weight, float eps, const Tensor& y,
                      const Tensor& rstd) {
  const ProfileScope profile("rms_norm_forward");
  constexpr const char* kOp = "rms_norm_forward";
  const int64_t n = x.rows();
  const int64_t d = x.cols();
  require(kOp, "x", stream, x, {n, d});
  require(kOp, "weight", stream, weight, {d});
  require(kOp, "y", stream, y, {n, d});
  require(kOp, "rstd", stream, rstd, {n});
  dispatch(stream, [&] {
    cpu::rms_norm_forward(n, d, x.data<float>(), weight.data<float>(), eps, y.data<float>(),
                          rstd.data<float>());
  });
}

void rms_norm_backward(Stream stream, const Tensor& dy, const Tensor& x, const Tensor& weight,
                       const Tensor& rstd, const Tensor& dx, const Tensor& dweight, const Tensor& workspace) {
  const ProfileScope profile("rms_norm_backward");
  constexpr const char* kOp = "rms_norm_backward";
  const int64_t n = x.rows();
  const int64_t d = x.cols();
  require(kOp, "dy", stream, dy, {n, d});
  require(kOp, "x", stream, x, {n, d});
  require(kOp, "weight", stream, weight, {d});
  require(kOp, "rstd", stream, rstd, {n});
  require(kOp, "dx", stream, dx, {n, d});
  require(kOp, "dweight", stream, dweight, {d});
  require_workspace(kOp, stream, workspace, reduction_workspace(d));
  dispatch(stream, [&] {
    cpu::rms_norm_backward(n, d, dy.data<float>(), x.data<float>(), weight.data<float>(), rstd.data<float>(),
                           dx.data<float>(), dweight.data<float>(), workspace.data<float>());
  });
}

void rope_table(Stream stream, double theta, const Tensor& table) {
  const ProfileScope profile("rope_table");
  require("rope_table", "table", stream, table, {table.rows(), table.cols()});
  DR_CHECK_MSG(table.cols() % 2 == 0, "rope_table: head_dim must be even");
  dispatch(stream, [&] { cpu::rope_table(table.rows(), table.cols(), theta, table.data<float>()); });
}

namespace {

void require_norm_rope(const char* op, Stream stream, const AttentionShape& shape, const Tensor& qkv,
                       const Tensor& q_weight, const Tensor& k_weight, const Tensor& rope) {
  DR_CHECK_MSG(shape.head_dim % 2 == 0, "q/k norm and RoPE: head_dim must be even");
  require(op, "qkv", stream, qkv, {shape.tokens(), shape.qkv_cols()});
  require(op, "q_weight", stream, q_weight, {shape.head_dim});
  require(op, "k_weight", stream, k_weight, {shape.head_dim});
  require(op, "rope", stream, rope, {shape.seq_len, shape.head_dim});
}

}  // namespace

void qk_norm_rope_forward(Stream stream, const AttentionShape& shape, const Tensor& qkv,
                          const Tensor& q_weight, const Tensor& k_weight, float eps, const Tensor& rope,
                          const Tensor& q, const Tensor& k) {
  const ProfileScope profile("qk_norm_rope_forward");
  constexpr const char* kOp = "qk_norm_rope_forward";
  require_norm_rope(kOp, stream, shape, qkv, q_weight, k_weight, rope);
  require(kOp, "q", stream, q, {shape.tokens(), shape.q_cols()});
  require(kOp, "k", stream, k, {shape.tokens(), shape.kv_cols()});
  dispatch(stream, [&] {
    cpu::qk_norm_rope_forward(shape, qkv.data<float>(), q_weight.data<float>(), k_weight.data<float>(), eps,
                              rope.data<float>(), q.data<float>(), k.data<float>());
  });
}

void qk_norm_rope_backward(Stream stream, const AttentionShape& shape, const Tensor& dq, const Tensor& dk,
                           const Tensor& qkv, const Tensor& q_weight, const Tensor& k_weight, float eps,
                           const Tensor& rope, const Tensor& dqkv, const Tensor& dq_weight,
                           const Tensor& dk_weight, const Tensor& workspace) {
  const ProfileScope profile("qk_norm_rope_backward");
  constexpr const char* kOp = "qk_norm_rope_backward";
  require_norm_rope(kOp, stream, shape, qkv, q_weight, k_weight, rope);
  require(kOp, "dq", stream, dq, {shape.tokens(), shape.q_cols()});
  require(kOp, "dk", stream, dk, {shape.tokens(), shape.kv_cols()});
  require(kOp, "dqkv", stream, dqkv, {shape.tokens(), shape.qkv_cols()});
  require(kOp, "dq_weight", stream, dq_weight, {shape.head_dim});
  require(kOp, "dk_weight", stream, dk_weight, {shape.head_dim});
  require_workspace(kOp, stream, workspace, reduction_workspace(2 * shape.head_dim));
  dispatch(stream, [&] {
    cpu::qk_norm_rope_backward(shape, dq.data<float>(), dk.data<float>(), qkv.data<float>(),
                               q_weight.data<float>(), k_weight.data<float>(), eps, rope.data<float>(),
                               dqkv.data<float>(), dq_weight.data<float>(), dk_weight.data<float>(),
                               workspace.data<float>());
  });
}

void swiglu_forward(Stream stream, const Tensor& gate_up, const Tensor& act) {
  const ProfileScope profile("swiglu_forward");
  const int64_t n = act.rows();
  const int64_t f = act.cols();
  require("swiglu_forward", "gate_up", stream, gate_up, {n, 2 * f});
  require("swiglu_forward", "act", stream, act, {n, f});
  dispatch(stream, [&] { cpu::swiglu_forward(n, f, gate_up.data<float>(), act.data<float>()); });
}

void swiglu_backward(Stream stream, const Tensor& dact, const Tensor& gate_up, const Tensor& dgate_up,
                     const Tensor& act) {
  const ProfileScope profile("swiglu_backward");
  constexpr const char* kOp = "swiglu_backward";
  const int64_t n = act.rows();
  const int64_t f = act.cols();
  require(kOp, "dact", stream, dact, {n, f});
  require(kOp, "gate_up", stream, gate_up, {n, 2 * f});
  require(kOp, "dgate_up", stream, dgate_up, {n, 2 * f});
  require(kOp, "act", stream, act, {n, f});
  dispatch(stream, [&] {
    cpu::swiglu_backward(n, f, dact.data<float>(), gate_up.data<float>(), dgate_up.data<float>(),
                         act.data<float>());
  });
}

int64_t cross_entropy_workspace(int64_t vocab_size) { return cpu::cross_entropy_workspace(vocab_size); }

void cross_entropy(Stream stream, const Tensor& hidden, const Tensor& head, const Tensor& targets,
                   float grad_scale, const Tensor& nll, const Tensor& dhidden, const Tensor& dhead,
                   const Tensor& workspace) {
  const ProfileScope profile("cross_entropy");
  constexpr const char* kOp = "cross_entropy";
  const int64_t n = hidden.rows();
  const int64_t d = hidden.cols();
  const int64_t vocab = head.rows();
  require(kOp, "hidden", stream, hidden, {n, d});
  require(kOp, "head", stream, head, {vocab, d});
  require(kOp, "targets", stream, targets, {n}, DType::i32);
  require(kOp, "nll", stream, nll, {n});
  if (dhidden.defined()) require(kOp, "dhidden", stream, dhidden, {n, d});
  if (dhead.defined()) require(kOp, "dhead", stream, dhead, {vocab, d});
  DR_CHECK_MSG(dhidden.defined() || !dhead.defined(),
               "cross_entropy: dhead is only computed along with dhidden");
  require_workspace(kOp, stream, workspace, cross_entropy_workspace(vocab));
  dispatch(stream, [&] {
    cpu::check_indices(n, targets.data<int32_t>(), -1, vocab);
    cpu::cross_entropy(n, d, vocab, hidden.data<float>(), head.data<float>(), targets.data<int32_t>(),
                       grad_scale, nll.data<float>(), dhidden.defined() ? dhidden.data<float>() : nullptr,
                       dhead.defined() ? dhead.data<float>() : nullptr, workspace.data<float>());
  });
}

int64_t cross_entropy_compare_workspace(int64_t vocab_size) {
  return cpu::cross_entropy_compare_workspace(vocab_size);
}

void cross_entropy_compare(Stream stream, const Tensor& clean, const Tensor& hidden, const Tensor& head,
                           const Tensor& targets, const Tensor& nll, const Tensor& kl, const Tensor& flipped,
                           const Tensor& workspace) {
  const ProfileScope profile("cross_entropy_compare");
  constexpr const char* kOp = "cross_entropy_compare";
  const int64_t n = hidden.rows();
  const int64_t d = hidden.cols();
  const int64_t vocab = head.rows();
  require(kOp, "clean", stream, clean, {n, d});
  require(kOp, "hidden", stream, hidden, {n, d});
  require(kOp, "head", stream, head, {vocab, d});
  require(kOp, "targets", stream, targets, {n}, DType::i32);
  require(kOp, "nll", stream, nll, {n});
  require(kOp, "kl", stream, kl, {n});
  require(kOp, "flipped", stream, flipped, {n}, DType::i32);
  require_workspace(kOp, stream, workspace, cross_entropy_compare_workspace(vocab));
  dispatch(stream, [&] {
    cpu::check_indices(n, targets.data<int32_t>(), -1, vocab);
    cpu::cross_entropy_compare(n, d, vocab, clean.data<float>(), hidden.data<float>(), head.data<float>(),
                               targets.data<int32_t>(), nll.data<float>(), kl.data<float>(),
                               flipped.data<int32_t>(), workspace.data<float>());
  });
}

}  // namespace depthroute::ops
