// Setting, copying and adding whole tensors, and the sum of one.
#include <cstring>

#include "configs/base/check.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/op_table.h"

namespace depthroute::cpu {

namespace {

constexpr int64_t kPiece = 1 << 20;  // bytes a thread sets or copies at a time

}  // namespace

void zero(Stream, const Tensor& x) {
  std::byte* const to = static_cast<std::byte*>(x.pointer);
  const int64_t bytes = x.bytes(), pieces = div_ceil(bytes, kPiece);
#pragma omp parallel for schedule(static) if (pieces > 1)
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const int64_t begin = piece * kPiece;
    std::memset(to + begin, 0, std::min(kPiece, bytes - begin));
  }
}

void fill(Stream, const Tensor& x, float value) {
  float* const to = x.data<float>();
  const int64_t n = x.numel();
#pragma omp parallel for simd schedule(static) if (n > kMinParallelElements)
  for (int64_t i = 0; i < n; ++i) to[i] = value;
}

void copy(Stream, const Tensor& from, const Tensor& to) {
  const std::byte* const source = static_cast<const std::byte*>(from.pointer);
  std::byte* const target = static_cast<std::byte*>(to.pointer);
  const int64_t bytes = from.bytes(), pieces = div_ceil(bytes, kPiece);
#pragma omp parallel for schedule(static) if (pieces > 1)
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const int64_t begin = piece * kPiece;
    std::memcpy(target + begin, source + begin, std::min(kPiece, bytes - begin));
  }
}

void cast(Stream, const Tensor&, const Tensor&) { DR_CHECK_MSG(false, "cast: the CPU computes in f32 only"); }

void add(Stream, const Tensor& x, const Tensor& y) {
  const float* const from = x.data<float>();
  float* const to = y.data<float>();
  const int64_t n = x.numel();
#pragma omp parallel for simd schedule(static) if (n > kMinParallelElements)
  for (int64_t i = 0; i < n; ++i) to[i] += from[i];
}

void sum(Stream, const Tensor& x, const Tensor& total) {
  *total.data<double>() += sum_of(x.numel(), x.data<float>(), [](double v) { return v; });
}

}  // namespace depthroute::cpu
