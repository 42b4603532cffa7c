// What touches every element once: memory-bound loops and sums over whole tensors, and AdamW.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "configs/base/check.h"
#include "kernels/cpu/kernels.h"

namespace depthroute::cpu {

namespace {

constexpr int64_t kSmall = 1 << 14;  // elements below which starting threads costs more than it saves

// Sums of tensors: at most this many parts, cut by the number of elements alone, added in order.
constexpr int64_t kParts = 256;
constexpr int64_t kMinPart = 4096;

// f(x) summed over one part: 16 interleaved float64 sums, so that the loop vectorises in a fixed order.
template <typename F>
double sum_part(int64_t n, const float* x, const F& f) {
  constexpr int64_t kLanes = 16;
  std::array<double, kLanes> lanes{};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma omp simd
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += f(static_cast<double>(x[i + lane]));
  }
  double total = 0;
  for (double lane : lanes) total += lane;
  for (; i < n; ++i) total += f(static_cast<double>(x[i]));
  return total;
}

template <typename F>
double sum_of(int64_t n, const float* x, const F& f) {
  const int64_t parts = std::clamp<int64_t>(n / kMinPart, 1, kParts);
  std::array<double, kParts> partial;
#pragma omp parallel for schedule(static) if (n > kSmall)
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t begin = n * part / parts;
    const int64_t end = n * (part + 1) / parts;
    partial[part] = sum_part(end - begin, x + begin, f);
  }
  double total = 0;
  for (int64_t part = 0; part < parts; ++part) total += partial[part];
  return total;
}

}  // namespace

void check_indices(int64_t n, const int32_t* indices, int64_t low, int64_t high) {
  bool bad = false;
  for (int64_t i = 0; i < n; ++i) bad |= indices[i] < low || indices[i] >= high;
  DR_CHECK_MSG(!bad, "a token or target is outside the vocabulary");
}

void zero(int64_t bytes, void* x) {
  constexpr int64_t kPiece = 1 << 20;
  const int64_t pieces = div_ceil(bytes, kPiece);
#pragma omp parallel for schedule(static) if (pieces > 1)
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const int64_t begin = piece * kPiece;
    std::memset(static_cast<std::byte*>(x) + begin, 0, std::min(kPiece, bytes - begin));
  }
}

void fill(int64_t n, float value, float* x) {
#pragma omp parallel for simd schedule(static) if (n > kSmall)
  for (int64_t i = 0; i < n; ++i) x[i] = value;
}

void copy(int64_t bytes, const void* from, void* to) {
  constexpr int64_t kPiece = 1 << 20;
  const int64_t pieces = div_ceil(bytes, kPiece);
#pragma omp parallel for schedule(static) if (pieces > 1)
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const int64_t begin = piece * kPiece;
    std::memcpy(static_cast<std::byte*>(to) + begin, static_cast<const std::byte*>(from) + begin,
                std::min(kPiece, bytes - begin));
  }
}

void add(int64_t n, const float* x, float* y) {
#pragma omp parallel for simd schedule(static) if (n > kSmall)
  for (int64_t i = 0; i < n; ++i) y[i] += x[i];
}

double sum(int64_t n, const float* x) {
  return sum_of(n, x, [](double v) { return v; });
}

double sum_of_squares(int64_t n, const float* x) {
  return sum_of(n, x, [](double v) { return v * v; });
}

void adamw(int64_t n, const ops::AdamwStep& step, float clip, const float* grad, float* param, float* m,
           float* v) {
  const double t = static_cast<double>(step.step);
  const float beta1 = step.beta1;
  const float beta2 = step.beta2;
  const float eps = step.eps;
  // Rounded once from float64: at t = 1, 1 - beta2 in float32 would lose digits that every update sees.
  const float one_minus_beta1 = static_cast<float>(1.0 - static_cast<double>(beta1));
  const float one_minus_beta2 = static_cast<float>(1.0 - static_cast<double>(beta2));
  const float step_size = static_cast<float>(step.lr / (1.0 - std::pow(static_cast<double>(beta1), t)));
  const float v_scale = static_cast<float>(1.0 / (1.0 - std::pow(static_cast<double>(beta2), t)));
  const float decay =
      static_cast<float>(static_cast<double>(step.lr) * static_cast<double>(step.weight_decay));
#pragma omp parallel for simd schedule(static) if (n > kSmall)
  for (int64_t i = 0; i < n; ++i) {
    const float g = grad[i] * clip;
    const float m_new = beta1 * m[i] + one_minus_beta1 * g;
    const float v_new = beta2 * v[i] + one_minus_beta2 * g * g;
    m[i] = m_new;
    v[i] = v_new;
    param[i] -= step_size * m_new / (std::sqrt(v_new * v_scale) + eps) + decay * param[i];
  }
}

}  // namespace depthroute::cpu
