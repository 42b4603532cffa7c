// Arguments of ops that are more than a tensor or a number, and the limits that ops share. ops.h, which uses
// them, defines the letters (N, D, ...) and "=" and "+=".
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>

#include "kernels/tensor.h"

namespace depthroute {

namespace ops {
/// Most sources of one routing site: the routing kernels hold a site's sources in fixed arrays.
inline constexpr int kMaxSources = 64;
/// A site's RMSNorm multiplies by w + copysign(kNormWeightStep, w) instead of w, so that h is found again from the
/// output. The same float wherever |w| >= 2^-39.
inline constexpr float kNormWeightStep = 0x1p-64F;
}  // namespace ops

/// Whether a matrix product reads an operand as it lies in memory or transposed.
enum class Transpose : uint8_t { no, yes };

/// Causal grouped-query attention on B sequences of T tokens.
struct AttentionShape {
  int64_t batch, seq_len, num_heads, num_kv_heads, head_dim;
  /// Asks a GPU library's attention for the same bits every time, at some cost in speed.
  bool deterministic = false;

  int64_t tokens() const { return batch * seq_len; }
  int64_t q_cols() const { return num_heads * head_dim; }
  int64_t kv_cols() const { return num_kv_heads * head_dim; }
  int64_t qkv_cols() const { return q_cols() + 2 * kv_cols(); }
  /// Views of the fused projection qkv [N, q|k|v].
  Tensor q_columns(const Tensor& qkv) const { return qkv.columns(0, q_cols()); }
  Tensor k_columns(const Tensor& qkv) const { return qkv.columns(q_cols(), q_cols() + kv_cols()); }
  /// Factor of the scores, 1 / sqrt(K).
  float scale() const { return static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim))); }
};

/// What a user should know about the kernels that a shape's attention gets, each a reason in one line or "".
struct AttentionNotes {
  std::string slow;          // why a library's kernels, which are much faster, are not used
  std::string unrecordable;  // why the backward pass cannot be part of a CUDA graph
};

/// One read of depth routing: n sources, their softmax over depth, and the RMSNorm that reads the mix
/// (formulas in ops.h). Views only; the caller owns the tensors and the spans.
struct RoutingSite {
  /// n x [N,D] act; the last one is the current state. In the forward pass a source may be replaced by R
  /// rows, R a divisor of N: token t reads row t mod R (a mean, or other tokens at the same positions).
  std::span<const Tensor> sources;
  Tensor query, key_norm;  // [D] f32; undefined: c_j = 0 and the logits are the offsets alone
  Tensor recency_bias;     // [1] f32 or undefined (0)
  /// [n] on the host; empty means 0. -inf drops a source.
  std::span<const float> offset;
  /// [n] on the host; empty means 1.
  std::span<const float> scale;
  /// [R,n] f32 or undefined, R a divisor of N; forward only. Token t mixes with the weights of row t mod R
  /// instead of the softmax, which is not computed: query, recency_bias and offset are ignored. A source
  /// whose weight is exactly 0 is not read. May be `weights` itself.
  Tensor given;
  float key_eps = 0;
  Tensor norm_weight;  // [D] f32 of the RMSNorm that reads h
  float norm_eps = 0;

  // Written by routing_forward for the backward pass and for traces; f32, per token and source.
  Tensor weights;  // [N,n] a
  Tensor inv_rms;  // [N,n] r (0 without query, or with given weights)
  Tensor dots;     // [N,n] c (0 likewise)
  Tensor rstd;     // [N] inverse RMS of h

  // Needed by the backward pass only, which finds h again: output = rstd h w, so nothing keeps h. Undefined
  // where there is none, and for one source without a scale, which is h itself.
  /// [N,D] act: what routing_forward has written to its output.
  Tensor output;
  /// [D] f32: 1 / w, written by routing_forward.
  Tensor inverse_norm;
  /// [N] f32: rstd^2 (g . h) / D, written by routing_backward for routing_backward_shared.
  Tensor projection;

  // A read in two phases: written by routing_read_finished, read by routing_forward. Undefined: one phase.
  /// [N,D] act: the mix of all sources but the last, their weights adding up to 1. May be the output of
  /// routing_forward, so that it needs no memory of its own.
  Tensor partial;
  Tensor partial_lse;  // [N] log-sum-exp of those sources' logits; -inf if all of them are dropped

  float offset_of(size_t source) const { return offset.empty() ? 0.0f : offset[source]; }
  float scale_of(size_t source) const { return scale.empty() ? 1.0f : scale[source]; }
  /// A dropped source may hold anything; nothing reads it. Where weights are given, offsets drop nothing.
  bool drops(size_t source) const {
    return !given.defined() && offset_of(source) == -std::numeric_limits<float>::infinity();
  }
};

/// Gradients of a site's parameters, f32, accumulated; and of its logits.
struct RoutingGradients {
  Tensor query, key_norm;  // [D] += (undefined if the site's are)
  Tensor recency_bias;     // [1] += or undefined
  Tensor norm_weight;      // [D] += or undefined: its sums stay unfinished in the workspace (PartialSums)
  Tensor logits;           // [N,n] = or undefined: dlogit of every token and source
};

/// A sum over tokens that an op has left unfinished, so that one call finishes those of many calls
/// (ops::add_partial_sums).
struct PartialSums {
  Tensor partials;  // [reduction_workspace(device, columns)] f32, as the op left it
  int64_t columns;  // that the op summed together
  int64_t first;    // the first of them that belongs to `sum`
  Tensor sum;       // [C] f32 +=
};

/// Hyperparameters of one AdamW step. max_norm 0 means no clipping; `step` is t, counted from 1.
struct AdamwStep {
  float lr, beta1, beta2, eps, weight_decay, max_norm;
  int64_t step;
};

}  // namespace depthroute
