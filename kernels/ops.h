// The one list of operations. Each checks shapes, dtypes and devices, then runs the kernel of the tensors'
// device (kernels/cpu/<op>.cpp, kernels/cuda/<op>.cu). Ops never allocate; scratch comes in as `workspace`
// and its size from the <op>_workspace() function beside it. A wrong shape is a programmer error and aborts.
//
// Letters: B sequences, T tokens per sequence, N = B*T tokens, D hidden_size, F intermediate_size, V
// vocab_size, H heads, G kv heads, K head_dim, n sources of a site. Activations are [rows, columns],
// row-major, f32 on the CPU.
// "=" overwrites, "+=" accumulates. Results do not depend on the number of threads except through GEMM.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/device.h"
#include "kernels/tensor.h"

namespace depthroute::ops {

// ---- memory
void zero(Stream, const Tensor& x);
void fill(Stream, const Tensor& x, float value);          // f32
void copy(Stream, const Tensor& from, const Tensor& to);  // same shape and dtype; between devices too
void add(Stream, const Tensor& x, const Tensor& y);       // y += x, f32
void sum(Stream, const Tensor& x, const Tensor& total);   // total [1] f64 += sum of x (f32)

// ---- matrix products
enum class Op { none, transpose };
/// c [m, n] = op(a) op(b) + beta * c, beta 0 or 1; rank 2, strided rows allowed for all three.
void gemm(Stream, Op op_a, Op op_b, const Tensor& a, const Tensor& b, float beta, const Tensor& c);

// ---- embedding
void embedding_forward(Stream, const Tensor& tokens /*[N] i32*/, const Tensor& table /*[V,D]*/,
                       const Tensor& out /*[N,D] =*/);
/// dtable[tokens[i]] += dout[i], in the order of i (deterministic).
void embedding_backward(Stream, const Tensor& tokens, const Tensor& dout, const Tensor& dtable /*+=*/);

// ---- RMSNorm: y = x / sqrt(mean(x^2) + eps) * weight
void rms_norm_forward(Stream, const Tensor& x /*[N,D]*/, const Tensor& weight /*[D]*/, float eps,
                      const Tensor& y /*[N,D] =*/, const Tensor& rstd /*[N] =*/);
/// Scratch, in floats, for reductions over tokens of `columns` values.
int64_t reduction_workspace(int64_t columns);
/// dx += ..., dweight += ...
void rms_norm_backward(Stream, const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& rstd,
                       const Tensor& dx /*+=*/, const Tensor& dweight /*+=*/,
                       const Tensor& workspace /*[reduction_workspace(D)]*/);

// ---- q/k RMSNorm over head_dim, then RoPE (rotate-half), on the fused projection
struct AttentionShape {
  int64_t batch, seq_len, num_heads, num_kv_heads, head_dim;
  int64_t tokens() const { return batch * seq_len; }
  int64_t q_cols() const { return num_heads * head_dim; }
  int64_t kv_cols() const { return num_kv_heads * head_dim; }
  int64_t qkv_cols() const { return q_cols() + 2 * kv_cols(); }
};
/// table [T, K]: cos(t * theta^(-2i/K)) for i < K/2, then the sines; angles in float64.
void rope_table(Stream, double theta, const Tensor& table);
void qk_norm_rope_forward(Stream, const AttentionShape&, const Tensor& qkv /*[N, q|k|v]*/,
                          const Tensor& q_weight /*[K]*/, const Tensor& k_weight /*[K]*/, float eps,
                          const Tensor& rope /*[T,K]*/, const Tensor& q /*[N,H*K] =*/,
                          const Tensor& k /*[N,G*K] =*/);
/// Writes the q and k columns of dqkv (=); the v columns are attention_backward's. Inverse RMS is recomputed.
void qk_norm_rope_backward(Stream, const AttentionShape&, const Tensor& dq, const Tensor& dk,
                           const Tensor& qkv, const Tensor& q_weight, const Tensor& k_weight, float eps,
                           const Tensor& rope, const Tensor& dqkv, const Tensor& dq_weight /*+=*/,
                           const Tensor& dk_weight /*+=*/,
                           const Tensor& workspace /*[reduction_workspace(2*K)]*/);

// ---- causal grouped-query attention: softmax(q k^T / sqrt(K)) v
/// v may be strided. lse [B,H,T]: log-sum-exp of each row of scaled scores, kept for backward.
/// Scratch per thread is a tile of rows, never T x T for all heads.
int64_t attention_workspace(const AttentionShape&);  // floats, forward and backward
void attention_forward(Stream, const AttentionShape&, const Tensor& q, const Tensor& k, const Tensor& v,
                       const Tensor& out /*[N,H*K] =*/, const Tensor& lse /*=*/, const Tensor& workspace);
void attention_backward(Stream, const AttentionShape&, const Tensor& dout, const Tensor& q, const Tensor& k,
                        const Tensor& v, const Tensor& out, const Tensor& lse, const Tensor& dq /*=*/,
                        const Tensor& dk /*=*/, const Tensor& dv /*=, strided*/, const Tensor& workspace);

// ---- SwiGLU: act = silu(gate) * up
void swiglu_forward(Stream, const Tensor& gate_up /*[N,2F]: gate | up*/, const Tensor& act /*[N,F] =*/);
/// Recomputes act as well (for the gradient of down_proj), so that the forward pass need not keep it.
/// dgate_up may be gate_up itself.
void swiglu_backward(Stream, const Tensor& dact, const Tensor& gate_up, const Tensor& dgate_up /*=*/,
                     const Tensor& act /*[N,F] =*/);

// ---- output head and cross-entropy, in chunks of rows so that [N, V] logits never exist
int64_t cross_entropy_workspace(int64_t vocab_size);  // floats
/// nll[i] = logsumexp(hidden[i] head^T) - logit[target[i]]; target -1 is ignored: nll 0, no gradient.
/// If dhidden is defined, in the same pass: dhidden = grad_scale * dL/dhidden, dhead += ..., L the sum of
/// nll.
void cross_entropy(Stream, const Tensor& hidden /*[N,D]*/, const Tensor& head /*[V,D]*/,
                   const Tensor& targets /*[N] i32*/, float grad_scale, const Tensor& nll /*[N] =*/,
                   const Tensor& dhidden /*[N,D] = or undefined*/,
                   const Tensor& dhead /*[V,D] += or undefined*/, const Tensor& workspace);
int64_t cross_entropy_compare_workspace(int64_t vocab_size);
/// Two hidden states through the same head: p from `clean`, p' from `hidden`. kl[i] = KL(p || p') >= 0 in
/// nats, nll[i] that of p', flipped[i] = argmax p != argmax p' (lowest index wins ties). Equal inputs give
/// exactly 0, 0.
void cross_entropy_compare(Stream, const Tensor& clean /*[N,D]*/, const Tensor& hidden /*[N,D]*/,
                           const Tensor& head, const Tensor& targets, const Tensor& nll /*[N] =*/,
                           const Tensor& kl /*[N] =*/, const Tensor& flipped /*[N] i32 =*/,
                           const Tensor& workspace);

// ---- depth routing (SPEC §1)
// One read of a site, the residual addition before it and the RMSNorm after it in one pass over the sources:
//   V_{n-1} += add;  u = query * key_norm;  r_j = 1/sqrt(mean(V_j^2) + key_eps);  c_j = u . V_j
//   logit_j = r_j c_j + offset_j + [j = n-1] recency_bias;  a = softmax(logit);  h = sum_j scale_j a_j V_j
//   output = RMSNorm(h; norm_weight, norm_eps)
// Sources may be the same tensor twice. An offset of -inf drops a source (not all of them). One source
// without offsets is the identity, and its logit's gradient is exactly 0.
struct RoutingSite {
  std::span<const Tensor> sources;  // n x [N,D], the last one is the current state
  Tensor query, key_norm;           // [D] f32; undefined: c_j = 0 and the logits are the offsets alone
  Tensor recency_bias;              // [1] f32 or undefined (0)
  std::span<const float> offset;    // [n] on the host; empty: 0
  std::span<const float> scale;     // [n] on the host; empty: 1
  float key_eps = 0;
  Tensor norm_weight;  // [D] of the RMSNorm that reads h
  float norm_eps = 0;
  // Kept for backward and for traces, float32, per token and source; nothing of size D.
  Tensor weights;  // [N,n] a
  Tensor inv_rms;  // [N,n] r (0 where query is undefined)
  Tensor dots;     // [N,n] c (0 where query is undefined)
  Tensor rstd;     // [N] inverse RMS of h
};
/// `add` [N,D] or undefined: added to the last source, in place, before anything is read.
void routing_forward(Stream, const RoutingSite&, const Tensor& add, const Tensor& output /*[N,D] =*/);

struct RoutingGradients {
  std::span<const Tensor> sources;  // n x [N,D] +=; the same tensor twice where the sources are
  Tensor query, key_norm;           // [D] += (undefined with the site's)
  Tensor recency_bias;              // [1] += or undefined
  Tensor norm_weight;               // [D] +=
};
/// h is recomputed from the sources and the kept weights. With d_j = scale_j dh . V_j:
///   dlogit_j = a_j (d_j - sum_i a_i d_i)    (one source: exactly 0)
///   dV_j += scale_j a_j dh + dlogit_j (r_j u - (r_j^3 c_j / D) V_j)
void routing_backward(Stream, const RoutingSite&, const Tensor& doutput /*[N,D]*/, const RoutingGradients&,
                      const Tensor& workspace /*[reduction_workspace(2*D+1)]*/);

// ---- optimiser
/// norm [1] f32 = sqrt(sum of squares), summed in float64 in a fixed order.
void global_norm(Stream, const Tensor& x /*[any] f32*/, const Tensor& norm);
struct AdamwStep {
  float lr, beta1, beta2, eps, weight_decay, max_norm;  // max_norm 0: no clipping
  int64_t step;                                         // t, 1-based
};
/// g = grad * min(1, max_norm / (norm + 1e-6)); m, v updated; param -= lr (mhat / (sqrt(vhat) + eps) + wd *
/// param). A non-finite norm leaves param, m and v untouched (the caller sees it in norm and counts it).
void adamw(Stream, const AdamwStep&, const Tensor& norm, const Tensor& grad, const Tensor& param,
           const Tensor& m, const Tensor& v);

}  // namespace depthroute::ops
