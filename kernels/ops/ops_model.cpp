// The operations of a Qwen3 layer but attention: embedding, norms, RoPE, SwiGLU, output head.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/reduce.h"
#include "kernels/ops/checks.h"
#include "kernels/ops/ops.h"
#include "kernels/profile.h"

namespace depthroute::ops {

int64_t reduction_workspace(Device device, int64_t columns) {
  return device == Device::cuda ? cuda::reduction_workspace(columns) : cpu::reduction_workspace(columns);
}

void embedding_forward(Stream stream, const Tensor& tokens, const Tensor& table, const Tensor& out) {
  const ProfileScope profile("embedding_forward");
  constexpr const char* kOp = "embedding_forward";
  const int64_t n = out.rows();
  const int64_t d = out.cols();
  require(kOp, "tokens", stream, tokens, {n}, DType::i32);
  const DType act = activation_type(kOp, "table", stream, table);
  require(kOp, "table", stream, table, {table.rows(), d}, act);
  require(kOp, "out", stream, out, {n, d}, act);
  dispatch(
      stream,
      [&] {
        cpu::check_indices(n, tokens.data<int32_t>(), 0, table.rows());
        cpu::embedding_forward(n, d, tokens.data<int32_t>(), table.data<float>(), out.data<float>());
      },
      [&] { cuda::embedding_forward(stream, tokens, table, out); });
}

void embedding_backward(Stream stream, const Tensor& tokens, const Tensor& dout, const Tensor& dtable) {
  const ProfileScope profile("embedding_backward");
  constexpr const char* kOp = "embedding_backward";
  const int64_t n = dout.rows();
  const int64_t d = dout.cols();
  require(kOp, "tokens", stream, tokens, {n}, DType::i32);
  require(kOp, "dout", stream, dout, {n, d}, activation_type(kOp, "dout", stream, dout));
  require(kOp, "dtable", stream, dtable, {dtable.rows(), d});
  dispatch(
      stream,
      [&] {
        cpu::check_indices(n, tokens.data<int32_t>(), 0, dtable.rows());
        cpu::embedding_backward(n, d, tokens.data<int32_t>(), dout.data<float>(), dtable.data<float>());
      },
      [&] { cuda::embedding_backward(stream, tokens, dout, dtable); });
}

void rms_norm_forward(Stream stream, const Tensor& x, const Tensor& weight, float eps, const Tensor& y,
                      const Tensor& rstd) {
  const ProfileScope profile("rms_norm_forward");
  constexpr const char* kOp = "rms_norm_forward";
  const int64_t n = x.rows();
  const int64_t d = x.cols();
  const DType act = activation_type(kOp, "x", stream, x);
  require(kOp, "x", stream, x, {n, d}, act);
  require(kOp, "weight", stream, weight, {d});
  require(kOp, "y", stream, y, {n, d}, act);
  require(kOp, "rstd", stream, rstd, {n});
  dispatch(
      stream,
      [&] {
        cpu::rms_norm_forward(n, d, x.data<float>(), weight.data<float>(), eps, y.data<float>(),
                              rstd.data<float>());
      },
      [&] { cuda::rms_norm_forward(stream, x, weight, eps, y, rstd); });
}

void rms_norm_backward(Stream stream, const Tensor& dy, const Tensor& x, const Tensor& weight,
                       const Tensor& rstd, const Tensor& dx, const Tensor& dweight, const Tensor& workspace) {
  const ProfileScope profile("rms_norm_backward");
  constexpr const char* kOp = "rms_norm_backward";
  const int64_t n = x.rows();
  const int64_t d = x.cols();
  const DType act = activation_type(kOp, "x", stream, x);
  require(kOp, "dy", stream, dy, {n, d}, act);
  require(kOp, "x", stream, x, {n, d}, act);
  require(kOp, "weight", stream, weight, {d});
  require(kOp, "rstd", stream, rstd, {n});
  require(kOp, "dx", stream, dx, {n, d}, act);
  require(kOp, "dweight", stream, dweight, {d});
  require_workspace(kOp, stream, workspace, reduction_workspace(stream.device, d));
  dispatch(
      stream,
      [&] {
        cpu::rms_norm_backward(n, d, dy.data<float>(), x.data<float>(), weight.data<float>(),
                               rstd.data<float>(), dx.data<float>(), dweight.data<float>(),
                               workspace.data<float>());
      },
      [&] { cuda::rms_norm_backward(stream, dy, x, weight, rstd, dx, dweight, workspace); });
}

void rope_table(Stream stream, double theta, const Tensor& table) {
  const ProfileScope profile("rope_table");
  require("rope_table", "table", stream, table, {table.rows(), table.cols()});
  DR_CHECK_MSG(table.cols() % 2 == 0, "rope_table: head_dim must be even");
  dispatch(
      stream, [&] { cpu::rope_table(table.rows(), table.cols(), theta, table.data<float>()); },
      [&] { cuda::rope_table(stream, theta, table); });
}

namespace {

/// The type of the activations, everything else checked.
DType require_norm_rope(const char* op, Stream stream, const AttentionShape& shape, const Tensor& qkv,
                        const Tensor& q_weight, const Tensor& k_weight, const Tensor& rope) {
  DR_CHECK_MSG(shape.head_dim % 2 == 0, "q/k norm and RoPE: head_dim must be even");
  const DType act = activation_type(op, "qkv", stream, qkv);
  require(op, "qkv", stream, qkv, {shape.tokens(), shape.qkv_cols()}, act);
  require(op, "q_weight", stream, q_weight, {shape.head_dim});
  require(op, "k_weight", stream, k_weight, {shape.head_dim});
  require(op, "rope", stream, rope, {shape.seq_len, shape.head_dim});
  return act;
}

}  // namespace

void qk_norm_rope_forward(Stream stream, const AttentionShape& shape, const Tensor& qkv,
                          const Tensor& q_weight, const Tensor& k_weight, float eps, const Tensor& rope,
                          const Tensor& q, const Tensor& k) {
  const ProfileScope profile("qk_norm_rope_forward");
  constexpr const char* kOp = "qk_norm_rope_forward";
  const DType act = require_norm_rope(kOp, stream, shape, qkv, q_weight, k_weight, rope);
  require(kOp, "q", stream, q, {shape.tokens(), shape.q_cols()}, act);
  require(kOp, "k", stream, k, {shape.tokens(), shape.kv_cols()}, act);
  dispatch(
      stream,
      [&] {
        cpu::qk_norm_rope_forward(shape, qkv.data<float>(), q_weight.data<float>(), k_weight.data<float>(),
                                  eps, rope.data<float>(), q.data<float>(), k.data<float>());
      },
      [&] { cuda::qk_norm_rope_forward(stream, shape, qkv, q_weight, k_weight, eps, rope, q, k); });
}

void qk_norm_rope_backward(Stream stream, const AttentionShape& shape, const Tensor& dq, const Tensor& dk,
                           const Tensor& qkv, const Tensor& q_weight, const Tensor& k_weight, float eps,
                           const Tensor& rope, const Tensor& dqkv, const Tensor& dq_weight,
                           const Tensor& dk_weight, const Tensor& workspace) {
  const ProfileScope profile("qk_norm_rope_backward");
  constexpr const char* kOp = "qk_norm_rope_backward";
  const DType act = require_norm_rope(kOp, stream, shape, qkv, q_weight, k_weight, rope);
  require(kOp, "dq", stream, dq, {shape.tokens(), shape.q_cols()}, act);
  require(kOp, "dk", stream, dk, {shape.tokens(), shape.kv_cols()}, act);
  require(kOp, "dqkv", stream, dqkv, {shape.tokens(), shape.qkv_cols()}, act);
  require(kOp, "dq_weight", stream, dq_weight, {shape.head_dim});
  require(kOp, "dk_weight", stream, dk_weight, {shape.head_dim});
  require_workspace(kOp, stream, workspace, reduction_workspace(stream.device, 2 * shape.head_dim));
  dispatch(
      stream,
      [&] {
        cpu::qk_norm_rope_backward(shape, dq.data<float>(), dk.data<float>(), qkv.data<float>(),
                                   q_weight.data<float>(), k_weight.data<float>(), eps, rope.data<float>(),
                                   dqkv.data<float>(), dq_weight.data<float>(), dk_weight.data<float>(),
                                   workspace.data<float>());
      },
      [&] {
        cuda::qk_norm_rope_backward(stream, shape, dq, dk, qkv, q_weight, k_weight, eps, rope, dqkv,
                                    dq_weight, dk_weight, workspace);
      });
}

void swiglu_forward(Stream stream, const Tensor& gate_up, const Tensor& act) {
  const ProfileScope profile("swiglu_forward");
  const int64_t n = act.rows();
  const int64_t f = act.cols();
  const DType type = activation_type("swiglu_forward", "act", stream, act);
  require("swiglu_forward", "gate_up", stream, gate_up, {n, 2 * f}, type);
  require("swiglu_forward", "act", stream, act, {n, f}, type);
  dispatch(
      stream, [&] { cpu::swiglu_forward(n, f, gate_up.data<float>(), act.data<float>()); },
      [&] { cuda::swiglu_forward(stream, gate_up, act); });
}

void swiglu_backward(Stream stream, const Tensor& dact, const Tensor& gate_up, const Tensor& dgate_up,
                     const Tensor& act) {
  const ProfileScope profile("swiglu_backward");
  constexpr const char* kOp = "swiglu_backward";
  const int64_t n = act.rows();
  const int64_t f = act.cols();
  const DType type = activation_type(kOp, "act", stream, act);
  require(kOp, "dact", stream, dact, {n, f}, type);
  require(kOp, "gate_up", stream, gate_up, {n, 2 * f}, type);
  require(kOp, "dgate_up", stream, dgate_up, {n, 2 * f}, type);
  require(kOp, "act", stream, act, {n, f}, type);
  dispatch(
      stream,
      [&] {
        cpu::swiglu_backward(n, f, dact.data<float>(), gate_up.data<float>(), dgate_up.data<float>(),
                             act.data<float>());
      },
      [&] { cuda::swiglu_backward(stream, dact, gate_up, dgate_up, act); });
}

int64_t cross_entropy_workspace(Device device, DType act, int64_t tokens, int64_t vocab_size) {
  return device == Device::cuda ? cuda::cross_entropy_workspace(act, tokens, vocab_size)
                                : cpu::cross_entropy_workspace(vocab_size);
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
  dispatch(
      stream,
      [&] {
        cpu::check_indices(n, targets.data<int32_t>(), -1, vocab);
        cpu::cross_entropy(n, d, vocab, hidden.data<float>(), head.data<float>(), targets.data<int32_t>(),
                           grad_scale, nll.data<float>(), dhidden.defined() ? dhidden.data<float>() : nullptr,
                           dhead.defined() ? dhead.data<float>() : nullptr, workspace.data<float>());
      },
      [&] {
        cuda::cross_entropy(stream, hidden, head, targets, grad_scale, nll, dhidden, dhead, workspace);
      });
}

int64_t cross_entropy_compare_workspace(Device device, DType act, int64_t tokens, int64_t vocab_size) {
  return device == Device::cuda ? cuda::cross_entropy_compare_workspace(act, tokens, vocab_size)
                                : cpu::cross_entropy_compare_workspace(vocab_size);
}

void cross_entropy_compare(Stream stream, const Tensor& clean, const Tensor& hidden, const Tensor& head,
                           const Tensor& targets, const Tensor& nll, const Tensor& kl, const Tensor& flipped,
                           const Tensor& workspace) {
  const ProfileScope profile("cross_entropy_compare");
  constexpr const char* kOp = "cross_entropy_compare";
  const int64_t n = hidden.rows();
  const int64_t d = hidden.cols();
  const int64_t vocab = head.rows();
  const DType act = activation_type(kOp, "hidden", stream, hidden);
  require(kOp, "clean", stream, clean, {n, d}, act);
  require(kOp, "hidden", stream, hidden, {n, d}, act);
  require(kOp, "head", stream, head, {vocab, d}, act);
  require(kOp, "targets", stream, targets, {n}, DType::i32);
  require(kOp, "nll", stream, nll, {n});
  require(kOp, "kl", stream, kl, {n});
  require(kOp, "flipped", stream, flipped, {n}, DType::i32);
  require_workspace(kOp, stream, workspace, cross_entropy_compare_workspace(stream.device, act, n, vocab));
  dispatch(
      stream,
      [&] {
        cpu::check_indices(n, targets.data<int32_t>(), -1, vocab);
        cpu::cross_entropy_compare(n, d, vocab, clean.data<float>(), hidden.data<float>(), head.data<float>(),
                                   targets.data<int32_t>(), nll.data<float>(), kl.data<float>(),
                                   flipped.data<int32_t>(), workspace.data<float>());
      },
      [&] {
        cuda::cross_entropy_compare(stream, clean, hidden, head, targets, nll, kl, flipped, workspace);
      });
}

}  // namespace depthroute::ops
