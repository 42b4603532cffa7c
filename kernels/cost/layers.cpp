// Costs of the ops of a transformer's layers.
#include "kernels/cost/products.h"
#include "kernels/cuda/work_split.h"
#include "kernels/op_table.h"

namespace depthroute::cost {

// Forward multiplies by a transposed weight, and the gradient of an input by the weight as it is; the gradient
// of a weight is a sum over tokens.
void gemm(Stream, Transpose op_a, Transpose op_b, const Tensor& a, const Tensor& b, float beta,
          const Tensor& c) {
  const std::string_view name = op_a == Transpose::yes   ? "products, gradients of weights"
                                : op_b == Transpose::yes ? "products, forward"
                                                         : "products, gradients of inputs";
  add_product(name, op_a, a, b, beta, c);
}

// As if no token occurred twice.
void embedding_forward(Stream, const Tensor& tokens, const Tensor& table, const Tensor& out) {
  if (out.numel() == 0) return;
  const int64_t rows = std::min(out.rows(), table.rows());
  Traffic("embedding forward").read(tokens).read(rows * table.cols() * size_of(table.dtype)).write(out).add();
}

// Likewise. Its search through the tokens stays in the L2 cache.
void embedding_backward(Stream, const Tensor& tokens, const Tensor& dout, const Tensor& dtable) {
  if (dout.numel() == 0) return;
  const int64_t rows = std::min(dout.rows(), dtable.rows()),
                bytes = rows * dtable.cols() * size_of(dtable.dtype);
  Traffic("embedding backward").read(tokens).read(dout).read(bytes).write(bytes).add();
}

void rms_norm_forward(Stream, const Tensor& x, const Tensor& weight, float, const Tensor& y,
                      const Tensor& rstd) {
  if (x.numel() > 0) Traffic("rms_norm forward").read(x).read(weight).write(y).write(rstd).add();
}

void rms_norm_backward(Stream stream, const Tensor& dy, const Tensor& x, const Tensor& weight,
                       const Tensor& rstd, const Tensor& dx, const Tensor& dweight, const Tensor& workspace) {
  if (x.numel() == 0) return;
  const int64_t chunks = cuda::reduction_chunks(x.rows());
  Traffic traffic("rms_norm backward");
  traffic.read(dy).read(x).read(weight).read(rstd).update(dx).write(4 * chunks * x.cols()).add();
  const PartialSums sum = {workspace, x.cols(), 0, dweight};
  add_partial_sums(stream, x.rows(), {&sum, 1});
}

void rope_table(Stream, double, const Tensor& table) {
  if (table.numel() > 0) Traffic("rope table").write(table).add();
}

namespace {
/// What q/k norm and RoPE read of weights, if there are any, and of the table of angles.
Traffic& read_norms(Traffic& traffic, const AttentionShape& shape, const Tensor& q_weight,
                    const Tensor& k_weight) {
  return traffic.read(q_weight).read(k_weight).read(4 * std::min(shape.seq_len, shape.tokens()) *
                                                    shape.head_dim);
}
/// Bytes of the q and k columns of qkv.
int64_t qk_bytes(const AttentionShape& shape, const Tensor& qkv) {
  return shape.tokens() * (shape.q_cols() + shape.kv_cols()) * size_of(qkv.dtype);
}
}  // namespace

void qk_norm_rope_forward(Stream, const AttentionShape& shape, const Tensor& qkv, const Tensor& q_weight,
                          const Tensor& k_weight, float, const Tensor&, const Tensor& q, const Tensor& k) {
  if (shape.tokens() == 0) return;
  Traffic traffic(q_weight.defined() ? "q/k norm forward" : "RoPE forward");
  read_norms(traffic, shape, q_weight, k_weight).read(qk_bytes(shape, qkv)).write(q).write(k).add();
}

void qk_norm_rope_backward(Stream stream, const AttentionShape& shape, const Tensor& dq, const Tensor& dk,
                           const Tensor& qkv, const Tensor& q_weight, const Tensor& k_weight, float,
                           const Tensor&, const Tensor& dqkv, const Tensor& dq_weight,
                           const Tensor& dk_weight, const Tensor& workspace) {
  if (shape.tokens() == 0) return;
  if (!q_weight.defined()) {
    Traffic traffic("RoPE backward");
    return read_norms(traffic, shape, {}, {}).read(dq).read(dk).write(qk_bytes(shape, dqkv)).add();
  }
  const int64_t chunks = cuda::reduction_chunks(shape.tokens());
  Traffic traffic("q/k norm backward");
  read_norms(traffic, shape, q_weight, k_weight).read(dq).read(dk).read(qk_bytes(shape, qkv));
  traffic.write(qk_bytes(shape, dqkv)).write(4 * chunks * 2 * shape.head_dim).add();
  if (!dq_weight.defined()) return;
  const PartialSums sums[] = {{workspace, 2 * shape.head_dim, 0, dq_weight},
                              {workspace, 2 * shape.head_dim, shape.head_dim, dk_weight}};
  add_partial_sums(stream, shape.tokens(), sums);
}

// What our own kernels need; only cuDNN knows its own.
int64_t attention_workspace(Device, DType, const AttentionShape& shape) {
  return shape.tokens() * shape.num_heads;
}

AttentionNotes attention_notes(Device, DType, const AttentionShape&) { return {}; }

namespace {

bool by_library(const Tensor& q) { return q.dtype == DType::bf16 && options().library_attention; }

/// Two products of T x T / 2 scores and head_dim, per head.
double forward_flops(const AttentionShape& s) {
  return 2 * static_cast<double>(s.tokens() * s.q_cols()) * static_cast<double>(s.seq_len);
}

/// delta = dout . out: float32, per query and head.
int64_t delta_bytes(const AttentionShape& s) { return 4 * s.tokens() * s.num_heads; }

}  // namespace

void attention_forward(Stream, const AttentionShape& shape, const Tensor& q, const Tensor& k, const Tensor& v,
                       const Tensor& out, const Tensor& lse, const Tensor&) {
  Traffic traffic("attention forward");
  traffic.read(q).read(k).read(v).write(out).write(lse);
  if (by_library(q)) traffic.library();
  traffic.flops(by_library(q) ? Rate::attention_forward : Rate::product_f32, forward_flops(shape)).add();
}

// Five products instead of two. Our own kernels compute the scores and their gradients twice.
void attention_backward(Stream, const AttentionShape& shape, const Tensor& dout, const Tensor& q,
                        const Tensor& k, const Tensor& v, const Tensor& out, const Tensor& lse,
                        const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor&) {
  constexpr std::string_view kName = "attention backward";
  const double product = forward_flops(shape) / 2;
  if (by_library(q)) {
    // In three kernels; dq is summed in float32.
    Traffic traffic(kName);
    traffic.read(dout).read(q).read(k).read(v).read(out).read(lse);
    traffic.read(2 * q.numel() * 4 + delta_bytes(shape)).write(2 * q.numel() * 4 + delta_bytes(shape));
    traffic.write(dq).write(dk).write(dv).flops(Rate::attention_backward, 5 * product).library(3).add();
    return;
  }
  Traffic(kName).read(dout).read(out).write(delta_bytes(shape)).add();
  const auto inputs = [&] {
    Traffic traffic(kName);
    traffic.read(q).read(dout).read(k).read(v).read(lse).read(delta_bytes(shape));
    return traffic;
  };
  inputs().write(dq).flops(Rate::product_f32, 3 * product).add();
  inputs().write(dk).write(dv).flops(Rate::product_f32, 4 * product).add();
}

void swiglu_forward(Stream, const Tensor& gate_up, const Tensor& act) {
  if (act.numel() > 0) Traffic("swiglu forward").read(gate_up).write(act).add();
}

void swiglu_backward(Stream, const Tensor& dact, const Tensor& gate_up, const Tensor& dgate_up,
                     const Tensor& act) {
  if (dact.numel() == 0) return;
  Traffic("swiglu backward").read(dact).read(gate_up).write(dgate_up).write(act).add();
}

}  // namespace depthroute::cost
