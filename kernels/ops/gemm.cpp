#include "kernels/op_table.h"
#include "kernels/ops/checks.h"
#include "kernels/profile.h"

namespace depthroute::ops {

void gemm(Stream stream, Transpose op_a, Transpose op_b, const Tensor& a, const Tensor& b, float beta,
          const Tensor& c) {
  const ProfileScope profile("gemm");
  const bool transpose_a = op_a == Transpose::yes;
  const bool transpose_b = op_b == Transpose::yes;
  DR_CHECK_MSG(beta == 0.0f || beta == 1.0f, "gemm: beta must be 0 or 1");
  const int64_t m = c.rows();
  const int64_t n = c.cols();
  const int64_t k = transpose_a ? a.rows() : a.cols();
  const DType act = activation_type("gemm", "a", stream, a);
  require_strided("gemm", "a", stream, a, transpose_a ? k : m, transpose_a ? m : k, act);
  require_strided("gemm", "b", stream, b, transpose_b ? n : k, transpose_b ? k : n, act);
  require_strided("gemm", "c", stream, c, m, n, c.dtype == DType::f32 ? DType::f32 : act);
  op_table(stream.device).gemm(stream, op_a, op_b, a, b, beta, c);
}

}  // namespace depthroute::ops
