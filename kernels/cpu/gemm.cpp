// Matrix products through OpenBLAS. Its OpenMP build needs no help: it shares our pool of threads, and runs
// on one thread inside a parallel region. The other builds start threads of their own under ours
// (openblas_get_parallel() is 1) or have none (0); with those, each call is single-threaded, and C is cut
// into bands over our threads.
#include "kernels/cpu/gemm.h"

#include <cblas.h>
#include <omp.h>

#include <algorithm>
#include <atomic>
#include <mutex>

#include "configs/base/check.h"
#include "kernels/op_table.h"
#include "kernels/profile.h"

namespace depthroute::cpu {

namespace {

constexpr int kOpenMpBuild = 2;

struct Product {
  bool transpose_a, transpose_b;
  int64_t m, n, k;
  const float* a;
  int64_t lda;
  const float* b;
  int64_t ldb;
  float beta;
  float* c;
  int64_t ldc;
};

void call(const Product& p) {
  if (p.m == 0 || p.n == 0) return;
  cblas_sgemm(CblasRowMajor, p.transpose_a ? CblasTrans : CblasNoTrans,
              p.transpose_b ? CblasTrans : CblasNoTrans, narrow<blasint>(p.m), narrow<blasint>(p.n),
              narrow<blasint>(p.k), 1.0f, p.a, narrow<blasint>(p.lda), p.b, narrow<blasint>(p.ldb), p.beta,
              p.c, narrow<blasint>(p.ldc));
}

// Bands of the longer side of C, multiples of 16 wide.
Product band(const Product& p, int64_t index, int64_t count_of_bands) {
  Product result = p;
  const auto cut = [&](int64_t extent) {
    const int64_t width = round_up(div_ceil(extent, count_of_bands), 16);
    const int64_t begin = std::min(extent, index * width);
    return std::pair{begin, std::min(extent, begin + width) - begin};
  };
  if (p.m >= p.n) {
    const auto [begin, count] = cut(p.m);
    result.m = count;
    result.a += p.transpose_a ? begin : begin * p.lda;
    result.c += begin * p.ldc;
  } else {
    const auto [begin, count] = cut(p.n);
    result.n = count;
    result.b += p.transpose_b ? begin * p.ldb : begin;
    result.c += begin;
  }
  return result;
}

void call_without_openmp_build(const Product& p) {
  static const bool single_threaded = [] {
    openblas_set_num_threads(1);
    return true;
  }();
  (void)single_threaded;
  if (omp_in_parallel() || p.m * p.n * p.k < (int64_t{1} << 15)) return call(p);
#pragma omp parallel
  call(band(p, omp_get_thread_num(), omp_get_num_threads()));
}

std::atomic<bool> independent_of_threads = false;

// OpenBLAS adds in another order when it cuts a product over more threads. Here C is cut into tiles by its
// size alone, and one thread computes each; tiles shrink until there are enough of them. Measured on 2 cores:
// 0.9 to 1.0 of the speed with OpenBLAS's own threads, less for products under a microsecond.
void call_in_tiles(const Product& p) {
  static const bool single_threaded = [] {
    if (openblas_get_parallel() != kOpenMpBuild) openblas_set_num_threads(1);
    return true;
  }();
  (void)single_threaded;
  int64_t edge = 512;
  while (edge > 64 && div_ceil(p.m, edge) * div_ceil(p.n, edge) < 16) edge /= 2;
  const int64_t rows = div_ceil(p.m, edge), cols = div_ceil(p.n, edge);
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t tile = 0; tile < rows * cols; ++tile) {
    const int64_t i = tile / cols * edge, j = tile % cols * edge;
    Product product = p;
    product.m = std::min(edge, p.m - i);
    product.n = std::min(edge, p.n - j);
    product.a += p.transpose_a ? i : i * p.lda;
    product.b += p.transpose_b ? j * p.ldb : j;
    product.c += i * p.ldc + j;
    call(product);
  }
}

}  // namespace

void make_products_independent_of_threads(bool on) { independent_of_threads = on; }

void sgemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
           const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
  // Inside a parallel region (attention's tiles) many threads are here at once, and the op's own scope counts
  // the time.
  const ProfileScope profile(omp_in_parallel() ? "" : "sgemm",
                             2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k));
  const Product product{transpose_a, transpose_b, m, n, k, a, lda, b, ldb, beta, c, ldc};
  // omp_get_level() also counts regions of one thread: inside
  // one, attention's products must not be cut further.
  if (independent_of_threads && omp_get_level() == 0) return call_in_tiles(product);
  static const bool openmp_build = openblas_get_parallel() == kOpenMpBuild;
  if (openmp_build) return call(product);
  call_without_openmp_build(product);
}

void gemm(Stream, Transpose op_a, Transpose op_b, const Tensor& a, const Tensor& b, float beta,
          const Tensor& c) {
  const bool transpose_a = op_a == Transpose::yes, transpose_b = op_b == Transpose::yes;
  sgemm(transpose_a, transpose_b, c.rows(), c.cols(), transpose_a ? a.rows() : a.cols(), a.data<float>(),
        a.row_stride(), b.data<float>(), b.row_stride(), beta, c.data<float>(), c.row_stride());
}

}  // namespace depthroute::cpu
