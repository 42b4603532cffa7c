// The CPU backend: one function per op of kernels/ops/ops.h, on raw float32 pointers whose shapes ops.cpp has
// checked. Threads come from OpenMP. Sums over tokens go through a fixed number of chunks (reduce.h), so
// results do not depend on the number of threads; only GEMM's may.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/ops/ops.h"

namespace depthroute::cpu {

/// Aborts unless low <= index < high for all of them: files are validated before their tokens come here.
void check_indices(int64_t n, const int32_t* indices, int64_t low, int64_t high);

void zero(int64_t bytes, void* x);
void fill(int64_t n, float value, float* x);
void copy(int64_t bytes, const void* from, void* to);
void add(int64_t n, const float* x, float* y);
double sum(int64_t n, const float* x);
double sum_of_squares(int64_t n, const float* x);

/// c [m,n] = op(a) op(b) + beta c, inner extent k, leading dimensions in elements.
void gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
          const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

/// From now on gemm() gives the same bits with any number of threads.
void make_products_independent_of_threads(bool on);

void embedding_forward(int64_t n, int64_t d, const int32_t* tokens, const float* table, float* out);
void embedding_backward(int64_t n, int64_t d, const int32_t* tokens, const float* dout, float* dtable);

void rms_norm_forward(int64_t n, int64_t d, const float* x, const float* weight, float eps, float* y,
                      float* rstd);
void rms_norm_backward(int64_t n, int64_t d, const float* dy, const float* x, const float* weight,
                       const float* rstd, float* dx, float* dweight, float* workspace);

void rope_table(int64_t seq_len, int64_t head_dim, double theta, float* table);
void qk_norm_rope_forward(const ops::AttentionShape&, const float* qkv, const float* q_weight,
                          const float* k_weight, float eps, const float* rope, float* q, float* k);
void qk_norm_rope_backward(const ops::AttentionShape&, const float* dq, const float* dk, const float* qkv,
                           const float* q_weight, const float* k_weight, float eps, const float* rope,
                           float* dqkv, float* dq_weight, float* dk_weight, float* workspace);

int64_t attention_workspace(const ops::AttentionShape&);
/// v (and dv) have v_stride elements from token to token.
void attention_forward(const ops::AttentionShape&, const float* q, const float* k, const float* v,
                       int64_t v_stride, float* out, float* lse, float* workspace);
void attention_backward(const ops::AttentionShape&, const float* dout, const float* q, const float* k,
                        const float* v, int64_t v_stride, const float* out, const float* lse, float* dq,
                        float* dk, float* dv, int64_t dv_stride, float* workspace);

void swiglu_forward(int64_t n, int64_t f, const float* gate_up, float* act);
void swiglu_backward(int64_t n, int64_t f, const float* dact, const float* gate_up, float* dgate_up,
                     float* act);

int64_t cross_entropy_workspace(int64_t vocab_size);
void cross_entropy(int64_t n, int64_t d, int64_t vocab, const float* hidden, const float* head,
                   const int32_t* targets, float grad_scale, float* nll, float* dhidden, float* dhead,
                   float* workspace);
int64_t cross_entropy_compare_workspace(int64_t vocab_size);
void cross_entropy_compare(int64_t n, int64_t d, int64_t vocab, const float* clean, const float* hidden,
                           const float* head, const int32_t* targets, float* nll, float* kl, int32_t* flipped,
                           float* workspace);

void routing_forward(int64_t n, int64_t d, const ops::RoutingSite&, const float* add, float* output);
int64_t routing_backward_workspace(int64_t d);
void routing_backward(int64_t n, int64_t d, const ops::RoutingSite&, const float* doutput, float* dcurrent,
                      const ops::RoutingGradients&, float* workspace);
void routing_backward_shared(int64_t n, int64_t d, std::span<const ops::RoutingSite> sites,
                             std::span<const Tensor> doutputs, std::span<const Tensor> dsources,
                             std::span<const ops::RoutingGradients>, float* workspace);

/// clip: the factor the gradient is multiplied with.
void adamw(int64_t n, const ops::AdamwStep&, float clip, const float* grad, float* param, float* m, float* v);

}  // namespace depthroute::cpu
