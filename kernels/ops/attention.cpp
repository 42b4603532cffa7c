#include "kernels/op_table.h"
#include "kernels/ops/checks.h"
#include "kernels/profile.h"

namespace depthroute::ops {

int64_t attention_workspace(Device device, DType act, const AttentionShape& shape) {
  return op_table(device).attention_workspace(device, act, shape);
}

AttentionNotes attention_notes(Device device, DType act, const AttentionShape& shape) {
  return op_table(device).attention_notes(device, act, shape);
}

namespace {

/// Checks what forward and backward share. Returns the dtype of the activations.
DType require_attention(const char* op, Stream stream, const AttentionShape& shape, const Tensor& q,
                        const Tensor& k, const Tensor& v, const Tensor& out, const Tensor& lse,
                        const Tensor& workspace) {
  DR_CHECK_MSG(shape.num_kv_heads > 0 && shape.num_heads % shape.num_kv_heads == 0,
               "attention: num_heads must be a multiple of num_kv_heads");
  const int64_t n = shape.tokens();
  const DType act = activation_type(op, "q", stream, q);
  require(op, "q", stream, q, {n, shape.q_cols()}, act);
  require(op, "k", stream, k, {n, shape.kv_cols()}, act);
  require_strided(op, "v", stream, v, n, shape.kv_cols(), act);
  require(op, "out", stream, out, {n, shape.q_cols()}, act);
  require(op, "lse", stream, lse, {shape.batch, shape.num_heads, shape.seq_len});
  // How much a GPU's library wants for a shape that was not planned for is no programmer's error: there the backend
  // checks, and throws.
  if (stream.device == Device::cpu)
    require_workspace(op, stream, workspace, attention_workspace(stream.device, act, shape));
  return act;
}

}  // namespace

void attention_forward(Stream stream, const AttentionShape& shape, const Tensor& q, const Tensor& k,
                       const Tensor& v, const Tensor& out, const Tensor& lse, const Tensor& workspace) {
  const ProfileScope profile("attention_forward");
  require_attention("attention_forward", stream, shape, q, k, v, out, lse, workspace);
  op_table(stream.device).attention_forward(stream, shape, q, k, v, out, lse, workspace);
}

void attention_backward(Stream stream, const AttentionShape& shape, const Tensor& dout, const Tensor& q,
                        const Tensor& k, const Tensor& v, const Tensor& out, const Tensor& lse,
                        const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& workspace) {
  const ProfileScope profile("attention_backward");
  constexpr const char* kOp = "attention_backward";
  const DType act = require_attention(kOp, stream, shape, q, k, v, out, lse, workspace);
  const int64_t n = shape.tokens();
  require(kOp, "dout", stream, dout, {n, shape.q_cols()}, act);
  require(kOp, "dq", stream, dq, {n, shape.q_cols()}, act);
  require(kOp, "dk", stream, dk, {n, shape.kv_cols()}, act);
  require_strided(kOp, "dv", stream, dv, n, shape.kv_cols(), act);
  op_table(stream.device).attention_backward(stream, shape, dout, q, k, v, out, lse, dq, dk, dv, workspace);
}

}  // namespace depthroute::ops
