#include "kernels/op_table.h"
#include "kernels/ops/checks.h"
#include "kernels/profile.h"

namespace depthroute::ops {

void rope_table(Stream stream, double theta, const Tensor& table) {
  const ProfileScope profile("rope_table");
  require("rope_table", "table", stream, table, {table.rows(), table.cols()});
  DR_CHECK_MSG(table.cols() % 2 == 0, "rope_table: head_dim must be even");
  op_table(stream.device).rope_table(stream, theta, table);
}

namespace {

/// Checks what forward and backward share. Returns the dtype of the activations.
DType require_norm_rope(const char* op, Stream stream, const AttentionShape& shape, const Tensor& qkv,
                        const Tensor& q_weight, const Tensor& k_weight, const Tensor& rope) {
  DR_CHECK_MSG(shape.head_dim % 2 == 0, "q/k norm and RoPE: head_dim must be even");
  const DType act = activation_type(op, "qkv", stream, qkv);
  require(op, "qkv", stream, qkv, {shape.tokens(), shape.qkv_cols()}, act);
  DR_CHECK_MSG(q_weight.defined() == k_weight.defined(), "q/k norm and RoPE: both weights, or neither");
  if (q_weight.defined()) {
    require(op, "q_weight", stream, q_weight, {shape.head_dim});
    require(op, "k_weight", stream, k_weight, {shape.head_dim});
  }
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
  op_table(stream.device).qk_norm_rope_forward(stream, shape, qkv, q_weight, k_weight, eps, rope, q, k);
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
  DR_CHECK_MSG(dq_weight.defined() == dk_weight.defined(),
               "qk_norm_rope: both sums are finished, or neither");
  if (dq_weight.defined()) {
    require(kOp, "dq_weight", stream, dq_weight, {shape.head_dim});
    require(kOp, "dk_weight", stream, dk_weight, {shape.head_dim});
  }
  if (q_weight.defined())
    require_workspace(kOp, stream, workspace, reduction_workspace(stream.device, 2 * shape.head_dim));
  else
    DR_CHECK_MSG(!dq_weight.defined(), "qk_norm_rope: weights that are undefined have no gradients");
  op_table(stream.device)
      .qk_norm_rope_backward(stream, shape, dq, dk, qkv, q_weight, k_weight, eps, rope, dqkv, dq_weight,
                             dk_weight, workspace);
}

}  // namespace depthroute::ops
