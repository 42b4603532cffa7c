// The CUDA backend: one function per op of kernels/ops/ops.h with the op's arguments, whose shapes, types and
// devices ops*.cpp has checked. Work is put on the stream and not waited for. absent.cpp has the same
// functions for builds without CUDA: none of them can be reached there, since no such device resolves.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/ops/ops.h"

namespace depthroute::cuda {

using ops::AdamwStep;
using ops::AttentionShape;
using ops::RoutingGradients;
using ops::RoutingSite;

void zero(Stream, const Tensor& x);
void fill(Stream, const Tensor& x, float value);
void copy(Stream, const Tensor& from, const Tensor& to);
void cast(Stream, const Tensor& from, const Tensor& to);
void add(Stream, const Tensor& x, const Tensor& y);
void sum(Stream, const Tensor& x, const Tensor& total);
/// to [count] = the rows of from [parts, count] added in their order, f32 or f64. Not an op: for
/// kernels/collectives.
void sum_parts(Stream, const Tensor& from, const Tensor& to);

void gemm(Stream, bool transpose_a, bool transpose_b, const Tensor& a, const Tensor& b, float beta,
          const Tensor& c);

void embedding_forward(Stream, const Tensor& tokens, const Tensor& table, const Tensor& out);
void embedding_backward(Stream, const Tensor& tokens, const Tensor& dout, const Tensor& dtable);

int64_t reduction_workspace(int64_t columns);
void rms_norm_forward(Stream, const Tensor& x, const Tensor& weight, float eps, const Tensor& y,
                      const Tensor& rstd);
void rms_norm_backward(Stream, const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& rstd,
                       const Tensor& dx, const Tensor& dweight, const Tensor& workspace);

void rope_table(Stream, double theta, const Tensor& table);
void qk_norm_rope_forward(Stream, const AttentionShape&, const Tensor& qkv, const Tensor& q_weight,
                          const Tensor& k_weight, float eps, const Tensor& rope, const Tensor& q,
                          const Tensor& k);
void qk_norm_rope_backward(Stream, const AttentionShape&, const Tensor& dq, const Tensor& dk,
                           const Tensor& qkv, const Tensor& q_weight, const Tensor& k_weight, float eps,
                           const Tensor& rope, const Tensor& dqkv, const Tensor& dq_weight,
                           const Tensor& dk_weight, const Tensor& workspace);

int64_t attention_workspace(DType act, const AttentionShape&);
void attention_forward(Stream, const AttentionShape&, const Tensor& q, const Tensor& k, const Tensor& v,
                       const Tensor& out, const Tensor& lse, const Tensor& workspace);
void attention_backward(Stream, const AttentionShape&, const Tensor& dout, const Tensor& q, const Tensor& k,
                        const Tensor& v, const Tensor& out, const Tensor& lse, const Tensor& dq,
                        const Tensor& dk, const Tensor& dv, const Tensor& workspace);

void swiglu_forward(Stream, const Tensor& gate_up, const Tensor& act);
void swiglu_backward(Stream, const Tensor& dact, const Tensor& gate_up, const Tensor& dgate_up,
                     const Tensor& act);

int64_t cross_entropy_workspace(DType act, int64_t tokens, int64_t vocab_size);
void cross_entropy(Stream, const Tensor& hidden, const Tensor& head, const Tensor& targets, float grad_scale,
                   const Tensor& nll, const Tensor& dhidden, const Tensor& dhead, const Tensor& workspace);
int64_t cross_entropy_compare_workspace(DType act, int64_t tokens, int64_t vocab_size);
void cross_entropy_compare(Stream, const Tensor& clean, const Tensor& hidden, const Tensor& head,
                           const Tensor& targets, const Tensor& nll, const Tensor& kl, const Tensor& flipped,
                           const Tensor& workspace);

void routing_forward(Stream, const RoutingSite&, const Tensor& add, const Tensor& output);
int64_t routing_backward_workspace(int64_t hidden_size);
void routing_backward(Stream, const RoutingSite&, const Tensor& doutput, const Tensor& dcurrent,
                      const RoutingGradients&, const Tensor& workspace);
void routing_backward_shared(Stream, std::span<const RoutingSite> sites, std::span<const Tensor> doutputs,
                             std::span<const Tensor> dsources, std::span<const RoutingGradients>,
                             const Tensor& workspace);

int64_t sum_of_squares_workspace();
void sum_of_squares(Stream, const Tensor& x, const Tensor& total, const Tensor& workspace);
void combine_parts(Stream, const Tensor& parts, int64_t num_squares, const Tensor& loss, const Tensor& norm);
void adamw(Stream, const AdamwStep&, const Tensor& norm, const Tensor& loss, const Tensor& grad,
           const Tensor& param, const Tensor& m, const Tensor& v, const Tensor& compute);

}  // namespace depthroute::cuda
