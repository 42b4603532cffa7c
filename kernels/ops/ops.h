// The one list of operations. Each checks shapes, dtypes and devices (kernels/ops/<op>.cpp), then runs the
// kernel of the tensors' device (kernels/cpu/<op>.cpp, kernels/cuda/<op>.cu). Ops never allocate; scratch
// comes in as `workspace`, and <op>_workspace() beside the op returns its size. A wrong shape is a programmer
// error and aborts.
//
// Letters: B sequences, T tokens per sequence, N = B*T tokens, D hidden_size, F intermediate_size, V
// vocab_size, H heads, G kv heads, K head_dim, n sources of a site.
//
// Types: activations and their gradients are [rows, columns], row-major, "act": f32, on cuda also bf16, the
// same within one call. Matrices and the embedding have the activations' dtype. Norm weights, pseudo-queries,
// biases, statistics, losses and all gradients of parameters are f32 whatever the activations are.
//
// "=" overwrites, "+=" accumulates. Results do not depend on the number of threads except through GEMM.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "kernels/device.h"
#include "kernels/op_types.h"
#include "kernels/tensor.h"

namespace depthroute::ops {

using depthroute::AdamwStep;
using depthroute::AttentionNotes;
using depthroute::AttentionShape;
using depthroute::PartialSums;
using depthroute::RoutingGradients;
using depthroute::RoutingSite;
using depthroute::Transpose;

/// Returns why `device` does not support models of this shape, for an error message, or "".
std::string unsupported(Device device, int64_t hidden_size, int64_t intermediate_size, int64_t head_dim);

// ---- memory
void zero(Stream, const Tensor& x);
void fill(Stream, const Tensor& x, float value);          // f32
void copy(Stream, const Tensor& from, const Tensor& to);  // same shape and dtype; between devices too
void cast(Stream, const Tensor& from, const Tensor& to);  // same shape; f32 -> bf16 (to nearest even) or back
void add(Stream, const Tensor& x, const Tensor& y);       // y += x, act
void sum(Stream, const Tensor& x, const Tensor& total);   // total [1] f64 += sum of x (f32)

/// to[t] = from[t], bit for bit, where mask[t] != 0; the other rows of `to` stay. act, or f32 whatever the
/// activations are.
void select_rows(Stream, const Tensor& mask /*[N] i32*/, const Tensor& from /*[N,C]*/,
                 const Tensor& to /*[N,C]*/);
/// Floats of scratch for column_sums, for any number of rows.
int64_t column_sums_workspace(Device, int64_t columns);
/// sums[c] += the sum over t of x[t, c], in float64 in an order that depends on N and C alone. Rows where
/// mask[t] == 0 are not read. x is act, or f32 whatever the activations are.
void column_sums(Stream, const Tensor& x /*[N,C]*/, const Tensor& mask /*[N] i32 or undefined: every row*/,
                 const Tensor& sums /*[C] f64 +=*/, const Tensor& workspace);

// ---- matrix products
/// c [m, n] = op(a) op(b) + beta * c, beta 0 or 1; rank 2, strided rows allowed for all three. a and b act;
/// c act, or f32 whatever they are (gradients of parameters, logits). Sums in f32.
void gemm(Stream, Transpose op_a, Transpose op_b, const Tensor& a, const Tensor& b, float beta,
          const Tensor& c);

// ---- embedding
void embedding_forward(Stream, const Tensor& tokens /*[N] i32*/, const Tensor& table /*[V,D]*/,
                       const Tensor& out /*[N,D] =*/);
/// dtable[tokens[i]] += dout[i], in the order of i (deterministic).
void embedding_backward(Stream, const Tensor& tokens, const Tensor& dout, const Tensor& dtable /*+=*/);

// ---- RMSNorm: y = x / sqrt(mean(x^2) + eps) * weight
void rms_norm_forward(Stream, const Tensor& x /*[N,D]*/, const Tensor& weight /*[D]*/, float eps,
                      const Tensor& y /*[N,D] =*/, const Tensor& rstd /*[N] =*/);
/// Floats of scratch to sum rows of `columns` values over tokens.
int64_t reduction_workspace(Device, int64_t columns);
/// Finishes sums over `tokens` tokens, in the order in which the ops that left them would have: sum += its
/// columns.
void add_partial_sums(Stream, int64_t tokens, std::span<const PartialSums>);
/// dx += ..., dweight += ...
void rms_norm_backward(Stream, const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& rstd,
                       const Tensor& dx /*+=*/, const Tensor& dweight /*+=*/,
                       const Tensor& workspace /*[reduction_workspace(device, D)]*/);

// ---- q/k RMSNorm over head_dim, then RoPE (rotate-half), on the fused projection; RoPE alone if both weights are
// undefined
/// table [T, K]: cos(t * theta^(-2i/K)) for i < K/2, then the sines; angles in float64.
void rope_table(Stream, double theta, const Tensor& table);
void qk_norm_rope_forward(Stream, const AttentionShape&, const Tensor& qkv /*[N, q|k|v]*/,
                          const Tensor& q_weight /*[K] or undefined*/, const Tensor& k_weight /*likewise*/,
                          float eps, const Tensor& rope /*[T,K]*/, const Tensor& q /*[N,H*K] =*/,
                          const Tensor& k /*[N,G*K] =*/);
/// Writes the q and k columns of dqkv (=); attention_backward writes the v columns. Recomputes the inverse
/// RMS. If dq_weight and dk_weight are undefined, their sums, K columns each, stay in the workspace. RoPE alone reads
/// no value of qkv and needs no workspace.
void qk_norm_rope_backward(Stream, const AttentionShape&, const Tensor& dq, const Tensor& dk,
                           const Tensor& qkv, const Tensor& q_weight, const Tensor& k_weight, float eps,
                           const Tensor& rope, const Tensor& dqkv,
                           const Tensor& dq_weight /*+= or undefined*/, const Tensor& dk_weight /*likewise*/,
                           const Tensor& workspace /*[reduction_workspace(device, 2*K)]*/);

// ---- causal grouped-query attention: softmax(q k^T / sqrt(K)) v
/// Floats of scratch, enough for forward and for backward. A smaller batch may need more; a GPU's library that finds
/// too little throws SystemError with the numbers.
int64_t attention_workspace(Device, DType act, const AttentionShape&);
/// On a GPU that is present; empty otherwise.
AttentionNotes attention_notes(Device, DType act, const AttentionShape&);
/// v may be strided. lse [B,H,T]: log-sum-exp of each row of scaled scores, kept for backward.
void attention_forward(Stream, const AttentionShape&, const Tensor& q, const Tensor& k, const Tensor& v,
                       const Tensor& out /*[N,H*K] =*/, const Tensor& lse /*=*/, const Tensor& workspace);
void attention_backward(Stream, const AttentionShape&, const Tensor& dout, const Tensor& q, const Tensor& k,
                        const Tensor& v, const Tensor& out, const Tensor& lse, const Tensor& dq /*=*/,
                        const Tensor& dk /*=*/, const Tensor& dv /*=, strided*/, const Tensor& workspace);

// ---- SwiGLU: act = silu(gate) * up
void swiglu_forward(Stream, const Tensor& gate_up /*[N,2F]: gate | up*/, const Tensor& act /*[N,F] =*/);
/// If act is defined, also computes it again (for the gradient of down_proj), so that the forward pass need
/// not keep it. dgate_up may be gate_up itself.
void swiglu_backward(Stream, const Tensor& dact, const Tensor& gate_up, const Tensor& dgate_up /*=*/,
                     const Tensor& act /*[N,F] = or undefined*/);

// ---- output head and cross-entropy, in chunks of rows so that [N, V] logits never exist
int64_t cross_entropy_workspace(Device, DType act, int64_t tokens, int64_t vocab_size);  // floats
/// nll[i] = logsumexp(hidden[i] head^T) - logit[target[i]]; target -1 is ignored: nll 0, no gradient.
/// If dhidden is defined, also dhidden = grad_scale * dL/dhidden and dhead += grad_scale * dL/dhead, where L
/// is the sum of nll. Logits are f32; but with bf16 activations and dhidden, i.e. in training, all but the
/// target's are rounded to bf16. Against float64, with 600 tokens, 2000 classes and logits of standard deviation
/// 1, 2, 4, the executed kernels' nll of a token is off by 1.7e-4, 1.9e-3, 7.4e-3 nats (root mean square; at most
/// 8e-4, 0.013, 0.05), the mean by 1.5e-5, 2.1e-4, 5.5e-4 (standard errors 0.7e-5, 0.8e-4, 3.0e-4), dhidden by
/// 0.20, 0.27, 0.63 % and dhead by 0.10, 0.21, 0.69 %.
void cross_entropy(Stream, const Tensor& hidden /*[N,D]*/, const Tensor& head /*[V,D]*/,
                   const Tensor& targets /*[N] i32*/, float grad_scale, const Tensor& nll /*[N] =*/,
                   const Tensor& dhidden /*[N,D] = or undefined*/,
                   const Tensor& dhead /*[V,D] f32 += or undefined*/, const Tensor& workspace);
int64_t cross_entropy_compare_workspace(Device, DType act, int64_t tokens, int64_t vocab_size);  // floats
/// Compares hidden states through the same head: p from `clean`, p' from `hidden`, which has k N rows; row
/// j N + i is compared with row i of `clean`, whose logits are computed once for all k.
/// kl[i] = KL(p || p') >= 0 in nats, nll[i] that of p', flipped[i] = argmax p != argmax p' (lowest index wins
/// ties), hit[i] = argmax p' is the target. All are 0 where the target is -1. Equal inputs give kl and flipped
/// exactly 0, and no result depends on k.
void cross_entropy_compare(Stream, const Tensor& clean /*[N,D]*/, const Tensor& hidden /*[kN,D]*/,
                           const Tensor& head, const Tensor& targets, const Tensor& nll /*[N] =*/,
                           const Tensor& kl /*[N] =*/, const Tensor& flipped /*[N] i32 =*/,
                           const Tensor& hit /*[N] i32 =*/, const Tensor& workspace);

// ---- depth routing (train/model/SPEC.md §1)
// One read of a site, the residual addition before it and the RMSNorm after it in one pass over the sources:
//   V_{n-1} += add;  u = query * key_norm;  r_j = 1/sqrt(mean(V_j^2) + key_eps);  c_j = u . V_j
//   logit_j = r_j c_j + offset_j + [j = n-1] recency_bias;  a = softmax(logit);  h = sum_j scale_j a_j V_j
//   output = RMSNorm(h; norm_weight, norm_eps), with norm_weight moved away from 0 by kNormWeightStep
// The same tensor may be a source twice. An offset of -inf drops a source (never all of a site's). One source
// without offsets is the identity, and its logit's gradient is exactly 0. With site.given, a[t] is its row
// t mod R, bit for bit, r = c = 0, and there is no backward pass.
/// `add` [N,D] or undefined: added to the last source, in place, before anything is read.
/// Where site.partial is defined, routing_read_finished() of the same site has been called: this reads no
/// source but the last, and merges it. `add` must not change a source that has been read.
void routing_forward(Stream, const RoutingSite&, const Tensor& add, const Tensor& output /*[N,D] =*/);
/// First phase of the reads of G sites that share all sources but the last (n - 1 >= 1 finished blocks): reads
/// each finished source once for all sites, and the last source not at all. Writes the columns j < n-1 of each
/// site's inv_rms and dots, its partial and partial_lse and, in the columns j < n-1 of its weights, the softmax
/// among these sources, which routing_forward() rescales. A site's results do not depend, bit for bit, on
/// which sites share the call. No source is replaced and no weights are given.
///
/// In rows of D per token, G one-phase reads read the finished sources G (n-1) times; two phases read them
/// n-1 times, and write and read G partials. Storing a partial as bf16 is one rounding more: against float64
/// (D = 1024, n = 6, relative to the output's root mean square) the output's error is 2.3e-3 instead of 1.7e-3
/// in the root mean square, and at most 2.0e-2 instead of 1.5e-2. In f32, both are as with one phase.
void routing_read_finished(Stream, std::span<const RoutingSite> sites);
/// Whether that moves less memory than one-phase reads, for sites of n sources: G (n-1) > (n-1) + 2 G.
bool routing_read_finished_pays(int64_t sources, int64_t sites);
/// What each source contributes to a read, after routing_forward of the same site and before a source
/// changes. With x_j = scale_j a_j V_j from site.weights, and h = sum_j x_j:
///   norms_j = |x_j| / sum_i |x_i|;  projections_j = x_j . h / |h|^2 (over j they add up to 1);
///   cosines_j = V_j . V_{n-1} / (|V_j| |V_{n-1}|), exactly 1 for the last source
/// 0 where a denominator is 0. All 0 for a source that is not read: dropped, or given a weight of 0.
void routing_shares(Stream, const RoutingSite&, const Tensor& norms /*[N,n] =*/,
                    const Tensor& projections /*[N,n] =*/, const Tensor& cosines /*[N,n] =*/);

/// Floats of scratch for both parts below; the first needs no more than reduction_workspace(device, D).
int64_t routing_backward_workspace(Device, int64_t hidden_size);
// Backward comes in two parts: the first gives the current state's gradient, which the sublayer before the
// site needs at once; the second waits, so that a shared source is read once for many sites.
// With g = doutput * norm_weight, p = rstd^2 (g . h) / D, dh = rstd (g - p h), and sum_i scale_i a_i V_i = h:
//   dlogit_j = a_j (scale_j dh . V_j - dh . h) = a_j (scale_j dh . (V_j - h) + (scale_j - 1) dh . h)
//   dV_j += scale_j a_j dh + dlogit_j (r_j u - (r_j^3 c_j / D) V_j);   du = sum_j dlogit_j r_j V_j
// The second form of dlogit loses nothing where the sources are close to their mix. One source: exactly 0.
/// First part, per site: the gradients of the last source (the current state) and of norm_weight. Reads no
/// other source. Writes site.projection. dcurrent [N,D] = beta * dcurrent + add + ..., beta 0 or 1; `add` [N,D]
/// or undefined: what the sublayer's residual addition passes on.
void routing_backward(Stream, const RoutingSite&, const Tensor& doutput /*[N,D]*/, const Tensor& add,
                      float beta, const Tensor& dcurrent, const RoutingGradients&, const Tensor& workspace);
/// Second part, at once for G sites that share all sources but the last: the gradients of the shared sources
/// and of the logits, hence of query, key_norm and recency_bias. Each source is read once, and its gradient
/// read and written once, for all G sites. If the same tensor is a source twice, so is its gradient, with a
/// beta of 1 the second time. Call routing_backward() of each site first, and keep all sources, doutputs and
/// outputs unchanged in between.
///
/// Here dlogit_j = a_j (e_j - sum_i a_i e_i), e_j = scale_j dh . V_j - scale_{n-1} dh . V_{n-1}. These add up
/// to 0, as du requires: it is a difference of nearly equal terms, and h was found from a rounded output.
void routing_backward_shared(Stream, std::span<const RoutingSite> sites, std::span<const Tensor> doutputs,
                             std::span<const Tensor> dsources /*n-1 x [N,D] = beta_j * itself + ...*/,
                             std::span<const float> betas /*n-1, each 0 or 1; empty: all 1*/,
                             std::span<const RoutingGradients>, const Tensor& workspace);

// ---- optimizer
int64_t sum_of_squares_workspace(Device);  // floats
/// total [1] f64 = sum of x^2, in float64 in a fixed order.
void sum_of_squares(Stream, const Tensor& x /*[any] f32*/, const Tensor& total, const Tensor& workspace);
/// Combines the totals of a step's optimizer shards. Each row of `totals` [S, C] f64
/// holds one shard's loss (column 0) and sums of squares (columns 1 ... num_squares).
/// loss [1] f64 = sum of column 0; norm [1] f32 = sqrt(sum of the squares); both in
/// the order of rows, so the bits do not depend on which rank owns which row.
void combine_shard_totals(Stream, const Tensor& totals, int64_t num_squares, const Tensor& loss /*=*/,
                          const Tensor& norm /*=*/);
/// g = grad * min(1, max_norm / (norm + 1e-6)); updates m and v; param -= lr (mhat / (sqrt(vhat) + eps) +
/// wd * param); compute = param rounded to bf16. All [any], f32 except compute. If norm or loss is not
/// finite, nothing changes (the caller sees that in them and counts the skipped step).
void adamw(Stream, const AdamwStep&, const Tensor& norm /*[1] f32*/, const Tensor& loss /*[1] f64*/,
           const Tensor& grad, const Tensor& param, const Tensor& m, const Tensor& v,
           const Tensor& compute /*bf16 or undefined*/);

}  // namespace depthroute::ops
