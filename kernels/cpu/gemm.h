// Matrix products on raw pointers, for CPU kernels that are made of products themselves.
#pragma once

#include <cstdint>

namespace depthroute::cpu {

/// c [m,n] = op(a) op(b) + beta c, inner extent k, row-major; ld*: elements from row to row. May be called
/// inside a parallel region and then runs on the calling thread.
void sgemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
           const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

/// While on, matrix products give the same bits with any number of threads.
void make_products_independent_of_threads(bool on);

}  // namespace depthroute::cpu
