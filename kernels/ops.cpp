// Memory, matrix products, and the optimiser. The rest is in ops_model.cpp, ops_attention.cpp and
// ops_routing.cpp.
#include "kernels/ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/kernels.h"
#include "kernels/op_checks.h"
#include "kernels/profile.h"

namespace depthroute::ops {

void zero(Stream stream, const Tensor& x) {
  const ProfileScope profile("zero");
  require("zero", "x", stream, x, x.shape, x.dtype);
  dispatch(stream, [&] { cpu::zero(x.bytes(), x.pointer); });
}

void fill(Stream stream, const Tensor& x, float value) {
  const ProfileScope profile("fill");
  require("fill", "x", stream, x, x.shape);
  dispatch(stream, [&] { cpu::fill(x.numel(), value, x.data<float>()); });
}

void copy(Stream stream, const Tensor& from, const Tensor& to) {
  const ProfileScope profile("copy");
  require("copy", "from", stream, from, to.shape, to.dtype);
  require("copy", "to", stream, to, to.shape, to.dtype);
  if (from.pointer == to.pointer) return;
  dispatch(stream, [&] { cpu::copy(from.bytes(), from.pointer, to.pointer); });
}

void add(Stream stream, const Tensor& x, const Tensor& y) {
  const ProfileScope profile("add");
  require("add", "x", stream, x, y.shape);
  require("add", "y", stream, y, y.shape);
  dispatch(stream, [&] { cpu::add(x.numel(), x.data<float>(), y.data<float>()); });
}

void sum(Stream stream, const Tensor& x, const Tensor& total) {
  const ProfileScope profile("sum");
  require("sum", "x", stream, x, x.shape);
  require("sum", "total", stream, total, Shape{1}, DType::f64);
  dispatch(stream, [&] { *total.data<double>() += cpu::sum(x.numel(), x.data<float>()); });
}

void gemm(Stream stream, Op op_a, Op op_b, const Tensor& a, const Tensor& b, float beta, const Tensor& c) {
  const ProfileScope profile("gemm");
  const bool transpose_a = op_a == Op::transpose;
  const bool transpose_b = op_b == Op::transpose;
  DR_CHECK_MSG(beta == 0.0f || beta == 1.0f, "gemm: beta must be 0 or 1");
  const int64_t m = c.rows();
  const int64_t n = c.cols();
  const int64_t k = transpose_a ? a.rows() : a.cols();
  require_strided("gemm", "a", stream, a, transpose_a ? k : m, transpose_a ? m : k);
  require_strided("gemm", "b", stream, b, transpose_b ? n : k, transpose_b ? k : n);
  require_strided("gemm", "c", stream, c, m, n);
  dispatch(stream, [&] {
    cpu::gemm(transpose_a, transpose_b, m, n, k, a.data<float>(), a.row_stride(), b.data<float>(),
              b.row_stride(), beta, c.data<float>(), c.row_stride());
  });
}

void global_norm(Stream stream, const Tensor& x, const Tensor& norm) {
  const ProfileScope profile("global_norm");
  require("global_norm", "x", stream, x, x.shape);
  require("global_norm", "norm", stream, norm, Shape{1});
  dispatch(stream, [&] {
    *norm.data<float>() = static_cast<float>(std::sqrt(cpu::sum_of_squares(x.numel(), x.data<float>())));
  });
}

namespace {

// SPEC §3: min(1, max_norm / (norm + 1e-6)).
float clip_factor(float norm, float max_norm) {
  if (max_norm == 0.0f) return 1.0f;
  return static_cast<float>(std::min(1.0, max_norm / (static_cast<double>(norm) + 1e-6)));
}

}  // namespace

void adamw(Stream stream, const AdamwStep& step, const Tensor& norm, const Tensor& grad, const Tensor& param,
           const Tensor& m, const Tensor& v) {
  const ProfileScope profile("adamw");
  require("adamw", "norm", stream, norm, Shape{1});
  require("adamw", "grad", stream, grad, param.shape);
  require("adamw", "param", stream, param, param.shape);
  require("adamw", "m", stream, m, param.shape);
  require("adamw", "v", stream, v, param.shape);
  DR_CHECK_MSG(step.step >= 1, "adamw: steps are counted from 1");
  DR_CHECK_MSG(step.max_norm >= 0.0f, "adamw: max_norm must not be negative");
  dispatch(stream, [&] {
    const float global = *norm.data<float>();
    if (!std::isfinite(global)) return;
    cpu::adamw(param.numel(), step, clip_factor(global, step.max_norm), grad.data<float>(),
               param.data<float>(), m.data<float>(), v.data<float>());
  });
}

}  // namespace depthroute::ops
