// Matrix products of the emulated device, in place of kernels/cuda/gemm.cpp, which needs cuBLASLt and a GPU.
// Sums in float32, as there: bf16 operands are widened exactly, and a bf16 result is rounded once.
#include <array>
#include <cstring>
#include <vector>

#include "kernels/cuda/check.h"
#include "kernels/cuda/libraries.h"
#include "kernels/op_table.h"
#include "tests/cuda_on_host/runtime.h"

namespace depthroute::cuda {
namespace {

float load(const Tensor& x, int64_t row, int64_t column) {
  const int64_t at = row * x.row_stride() + column;
  if (x.dtype == DType::f32) return static_cast<const float*>(x.pointer)[at];
  const uint32_t word = static_cast<uint32_t>(static_cast<const uint16_t*>(x.pointer)[at]) << 16;
  float value;
  std::memcpy(&value, &word, sizeof(value));
  return value;
}

void store(const Tensor& x, int64_t row, int64_t column, float value) {
  const int64_t at = row * x.row_stride() + column;
  if (x.dtype == DType::f32) {
    static_cast<float*>(x.pointer)[at] = value;
    return;
  }
  uint32_t word;
  std::memcpy(&word, &value, sizeof(word));
  const bool is_nan = value != value;
  const uint32_t nearest_even = (word + 0x7fff + ((word >> 16) & 1)) >> 16;
  static_cast<uint16_t*>(x.pointer)[at] = static_cast<uint16_t>(is_nan ? 0x7fc0 : nearest_even);
}

/// op(x) as float32 [rows, columns], contiguous.
std::vector<float> dense(const Tensor& x, bool transpose) {
  const int64_t rows = transpose ? x.cols() : x.rows(), columns = transpose ? x.rows() : x.cols();
  std::vector<float> result(static_cast<size_t>(rows * columns));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c)
      result[static_cast<size_t>(r * columns + c)] = transpose ? load(x, c, r) : load(x, r, c);
  return result;
}

/// In 16 partial sums, much as on a GPU.
float dot(int64_t count, const float* x, const float* y) {
  std::array<float, 16> lanes{};
  int64_t i = 0;
  for (; i + 16 <= count; i += 16)
    for (int64_t lane = 0; lane < 16; ++lane) lanes[lane] += x[i + lane] * y[i + lane];
  float sum = 0;
  for (; i < count; ++i) sum += x[i] * y[i];
  for (float lane : lanes) sum += lane;
  return sum;
}

void multiply(bool transpose_a, bool transpose_b, const Tensor& a, const Tensor& b, float beta,
              const Tensor& c) {
  const std::vector<float> left = dense(a, transpose_a);    // [m, k]
  const std::vector<float> right = dense(b, !transpose_b);  // [n, k]
  const int64_t m = c.rows(), n = c.cols(), k = transpose_a ? a.rows() : a.cols();
  for (int64_t row = 0; row < m; ++row)
    for (int64_t column = 0; column < n; ++column) {
      const float before = beta == 0.0f ? 0.0f : beta * load(c, row, column);
      store(c, row, column, before + dot(k, left.data() + row * k, right.data() + column * k));
    }
}

}  // namespace

std::string describe_blas() { return "plain loops"; }

void reserve_blas(Stream stream) { DR_CHECK(stream.device == Device::cuda); }

void gemm(Stream stream, Transpose op_a, Transpose op_b, const Tensor& a, const Tensor& b, float beta,
          const Tensor& c) {
  const bool transpose_a = op_a == Transpose::yes, transpose_b = op_b == Transpose::yes;
  const auto is_act = [](DType dtype) { return dtype == DType::f32 || dtype == DType::bf16; };
  DR_CHECK(a.device == Device::cuda && b.device == Device::cuda && c.device == Device::cuda);
  DR_CHECK(is_act(a.dtype) && b.dtype == a.dtype && (c.dtype == a.dtype || c.dtype == DType::f32));
  DR_CHECK(beta == 0.0f || beta == 1.0f);
  const int64_t k = transpose_a ? a.rows() : a.cols();
  DR_CHECK((transpose_a ? a.cols() : a.rows()) == c.rows() &&
           (transpose_b ? b.rows() : b.cols()) == c.cols());
  DR_CHECK(k > 0 && (transpose_b ? b.cols() : b.rows()) == k);
  for (const Tensor& x : {a, b, c}) DR_CHECK(x.row_stride() >= x.cols());
  DR_CUDA_CHECK(
      emulator::run_or_record(handle(stream), [=] { multiply(transpose_a, transpose_b, a, b, beta, c); }));
}

}  // namespace depthroute::cuda
