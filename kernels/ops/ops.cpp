// Memory, matrix products, and the optimiser. The rest is in ops_model.cpp, ops_attention.cpp and
// ops_routing.cpp.
#include "kernels/ops/ops.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/kernels.h"
#include "kernels/ops/checks.h"
#include "kernels/profile.h"

namespace depthroute::ops {

// What the CUDA kernels' 16-byte accesses ask for; the largest head a block's shared memory holds.
std::string unsupported(Device device, int64_t hidden_size, int64_t intermediate_size, int64_t head_dim) {
  if (device == Device::cpu) return "";
  constexpr int64_t kMultiple = 8, kMaxHidden = 32768, kMaxHeadDim = 256;
  const auto odd = [&](const char* name, int64_t value) {
    return fmt::format("{} = {} is not divisible by {}, as device: cuda needs", name, value, kMultiple);
  };
  if (hidden_size % kMultiple != 0) return odd("hidden_size", hidden_size);
  if (intermediate_size % kMultiple != 0) return odd("intermediate_size", intermediate_size);
  if (head_dim % kMultiple != 0) return odd("head_dim", head_dim);
  if (hidden_size > kMaxHidden)
    return fmt::format("hidden_size = {} is above {}, the most device: cuda computes", hidden_size,
                       kMaxHidden);
  if (head_dim > kMaxHeadDim)
    return fmt::format("head_dim = {} is above {}, the most device: cuda computes", head_dim, kMaxHeadDim);
  return "";
}

void zero(Stream stream, const Tensor& x) {
  const ProfileScope profile("zero");
  require("zero", "x", stream, x, x.shape, x.dtype);
  dispatch(
      stream, [&] { cpu::zero(x.bytes(), x.pointer); }, [&] { cuda::zero(stream, x); });
}

void fill(Stream stream, const Tensor& x, float value) {
  const ProfileScope profile("fill");
  require("fill", "x", stream, x, x.shape);
  dispatch(
      stream, [&] { cpu::fill(x.numel(), value, x.data<float>()); }, [&] { cuda::fill(stream, x, value); });
}

void copy(Stream stream, const Tensor& from, const Tensor& to) {
  const ProfileScope profile("copy");
  // One end may be host memory, whatever the stream's device.
  require("copy", "from", {from.device, nullptr}, from, to.shape, to.dtype);
  require("copy", "to", {to.device, nullptr}, to, to.shape, to.dtype);
  DR_CHECK_MSG(stream.device == Device::cuda || (from.device == Device::cpu && to.device == Device::cpu),
               "copy: a tensor on cuda and a stream of the cpu");
  if (from.pointer == to.pointer) return;
  dispatch(
      stream, [&] { cpu::copy(from.bytes(), from.pointer, to.pointer); },
      [&] { cuda::copy(stream, from, to); });
}

void cast(Stream stream, const Tensor& from, const Tensor& to) {
  const ProfileScope profile("cast");
  require("cast", "from", stream, from, to.shape, activation_type("cast", "from", stream, from));
  require("cast", "to", stream, to, to.shape, activation_type("cast", "to", stream, to));
  if (from.dtype == to.dtype) return copy(stream, from, to);
  dispatch(
      stream, [] { DR_CHECK_MSG(false, "cast: the CPU computes in f32 alone"); },
      [&] { cuda::cast(stream, from, to); });
}

void add(Stream stream, const Tensor& x, const Tensor& y) {
  const ProfileScope profile("add");
  const DType act = activation_type("add", "y", stream, y);
  require("add", "x", stream, x, y.shape, act);
  require("add", "y", stream, y, y.shape, act);
  dispatch(
      stream, [&] { cpu::add(x.numel(), x.data<float>(), y.data<float>()); },
      [&] { cuda::add(stream, x, y); });
}

void sum(Stream stream, const Tensor& x, const Tensor& total) {
  const ProfileScope profile("sum");
  require("sum", "x", stream, x, x.shape);
  require("sum", "total", stream, total, Shape{1}, DType::f64);
  dispatch(
      stream, [&] { *total.data<double>() += cpu::sum(x.numel(), x.data<float>()); },
      [&] { cuda::sum(stream, x, total); });
}

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
  dispatch(
      stream,
      [&] {
        cpu::gemm(transpose_a, transpose_b, m, n, k, a.data<float>(), a.row_stride(), b.data<float>(),
                  b.row_stride(), beta, c.data<float>(), c.row_stride());
      },
      [&] { cuda::gemm(stream, transpose_a, transpose_b, a, b, beta, c); });
}

int64_t sum_of_squares_workspace(Device device) {
  return device == Device::cuda ? cuda::sum_of_squares_workspace() : 0;
}

void sum_of_squares(Stream stream, const Tensor& x, const Tensor& total, const Tensor& workspace) {
  const ProfileScope profile("sum_of_squares");
  require("sum_of_squares", "x", stream, x, x.shape);
  require("sum_of_squares", "total", stream, total, Shape{1}, DType::f64);
  require_workspace("sum_of_squares", stream, workspace, sum_of_squares_workspace(stream.device));
  dispatch(
      stream, [&] { *total.data<double>() = cpu::sum_of_squares(x.numel(), x.data<float>()); },
      [&] { cuda::sum_of_squares(stream, x, total, workspace); });
}

void combine_parts(Stream stream, const Tensor& parts, int64_t num_squares, const Tensor& loss,
                   const Tensor& norm) {
  const ProfileScope profile("combine_parts");
  require("combine_parts", "parts", stream, parts, Shape{parts.rows(), parts.cols()}, DType::f64);
  require("combine_parts", "loss", stream, loss, Shape{1}, DType::f64);
  require("combine_parts", "norm", stream, norm, Shape{1});
  DR_CHECK(num_squares >= 0 && num_squares < parts.cols());
  dispatch(
      stream,
      [&] {
        double sum = 0, squares = 0;
        for (int64_t row = 0; row < parts.rows(); ++row) {
          const double* part = parts.data<double>() + row * parts.cols();
          sum += part[0];
          for (int64_t i = 1; i <= num_squares; ++i) squares += part[i];
        }
        *loss.data<double>() = sum;
        *norm.data<float>() = static_cast<float>(std::sqrt(squares));
      },
      [&] { cuda::combine_parts(stream, parts, num_squares, loss, norm); });
}

namespace {

// SPEC §3: min(1, max_norm / (norm + 1e-6)).
float clip_factor(float norm, float max_norm) {
  if (max_norm == 0.0f) return 1.0f;
  return static_cast<float>(std::min(1.0, max_norm / (static_cast<double>(norm) + 1e-6)));
}

}  // namespace

void adamw(Stream stream, const AdamwStep& step, const Tensor& norm, const Tensor& loss, const Tensor& grad,
           const Tensor& param, const Tensor& m, const Tensor& v, const Tensor& compute) {
  const ProfileScope profile("adamw");
  require("adamw", "norm", stream, norm, Shape{1});
  require("adamw", "loss", stream, loss, Shape{1}, DType::f64);
  require("adamw", "grad", stream, grad, param.shape);
  require("adamw", "param", stream, param, param.shape);
  require("adamw", "m", stream, m, param.shape);
  require("adamw", "v", stream, v, param.shape);
  if (compute.defined()) require("adamw", "compute", stream, compute, param.shape, DType::bf16);
  DR_CHECK_MSG(step.step >= 1, "adamw: steps are counted from 1");
  DR_CHECK_MSG(step.max_norm >= 0.0f, "adamw: max_norm must not be negative");
  dispatch(
      stream,
      [&] {
        DR_CHECK_MSG(!compute.defined(), "adamw: the CPU computes with the f32 parameters themselves");
        const float global = *norm.data<float>();
        if (!std::isfinite(global) || !std::isfinite(*loss.data<double>())) return;
        cpu::adamw(param.numel(), step, clip_factor(global, step.max_norm), grad.data<float>(),
                   param.data<float>(), m.data<float>(), v.data<float>());
      },
      [&] { cuda::adamw(stream, step, norm, loss, grad, param, m, v, compute); });
}

}  // namespace depthroute::ops
