// Output head and softmax cross-entropy in chunks of rows: the logits of one chunk live in the workspace,
// become their own gradient in place, and are gone. Two GEMMs of the chunk's size follow for the gradients.
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/vector_math.h"

namespace depthroute::cpu {

namespace {

// Rows of logits held at once. Each chunk makes GEMM pack the whole head again and adds to all of dhead, so
// few rows mean much traffic beside the arithmetic, and many rows mean memory: 64 MiB of logits, but at least
// kMinRows. With a vocabulary of 151936, 128 rows ran GEMM at 71-76 % of its rate, 256 at 85 %, 512 (297 MiB)
// at 88 %.
constexpr int64_t kBudget = int64_t{16} << 20;  // floats
constexpr int64_t kMinRows = 512;
constexpr int64_t kMaxRows = 1024;

int64_t rows_per_chunk(int64_t vocab) { return std::clamp(kBudget / vocab, kMinRows, kMaxRows); }
// Two logits per row to compare: half the rows in the same memory.
int64_t compare_rows(int64_t vocab) { return rows_per_chunk(vocab) / 2; }

constexpr int64_t kBlock = 2048;  // float32 sums over a row are added up in float64 after so many values

// Sum of exp(z - highest); the exponentials take the place of z where it is not const.
template <typename Float>
double sum_exponentials(int64_t vocab, Float* z, float highest) {
  constexpr bool kStore = !std::is_const_v<Float>;
  double total = 0;
  for (int64_t begin = 0; begin < vocab; begin += kBlock) {
    const int64_t end = std::min(vocab, begin + kBlock);
    float lanes[32] = {};
    int64_t c = begin;
    for (; c + 32 <= end; c += 32) {
#pragma omp simd
      for (int64_t lane = 0; lane < 32; ++lane) {
        const float e = fast_exp(z[c + lane] - highest);
        if constexpr (kStore) z[c + lane] = e;
        lanes[lane] += e;
      }
    }
    float block = 0;
    for (float lane : lanes) block += lane;
    for (; c < end; ++c) {
      const float e = fast_exp(z[c] - highest);
      if constexpr (kStore) z[c] = e;
      block += e;
    }
    total += static_cast<double>(block);
  }
  return total;
}

double log_sum_exp(int64_t vocab, const float* z, float highest) {
  return static_cast<double>(highest) + std::log(sum_exponentials(vocab, z, highest));
}

// z becomes d(scale * nll)/dz = scale * (softmax(z) - [target]); returns nll.
float differentiate_row(int64_t vocab, int32_t target, float scale, float* z) {
  if (target < 0) {
    std::fill(z, z + vocab, 0.0f);
    return 0.0f;
  }
  const float highest = max_value(vocab, z);
  const double at_target = static_cast<double>(z[target]) - static_cast<double>(highest);
  const double total = sum_exponentials(vocab, z, highest);
  const float factor = static_cast<float>(static_cast<double>(scale) / total);
#pragma omp simd
  for (int64_t c = 0; c < vocab; ++c) z[c] *= factor;
  z[target] -= scale;
  return static_cast<float>(std::log(total) - at_target);
}

float negative_log_likelihood(int32_t target, const float* z, double lse) {
  return target < 0 ? 0.0f : static_cast<float>(lse - static_cast<double>(z[target]));
}

// KL(p || q) = sum of p (exp(delta) - 1 - delta) with delta = log q - log p: the same sum as p (log p - log
// q), because p and q both add up to 1, but every term is >= 0 and of second order, so nothing cancels when q
// is near p.
float divergence(int64_t vocab, const float* z, double lse, const float* z_other, double lse_other) {
  const float shift = static_cast<float>(lse - lse_other);
  const float log_total = static_cast<float>(lse);
  const float log_total_other = static_cast<float>(lse_other);
  double total = 0;
  for (int64_t begin = 0; begin < vocab; begin += kBlock) {
    const int64_t end = std::min(vocab, begin + kBlock);
    float block = 0;
#pragma omp simd reduction(+ : block)
    for (int64_t c = begin; c < end; ++c) {
      const float p = fast_exp(z[c] - log_total);
      const float delta = (z_other[c] - z[c]) + shift;
      const float far = fast_exp(z_other[c] - log_total_other) - p - p * delta;
      // exp(delta) - 1 - delta to float precision for |delta| < 1/4.
      const float series =
          0.5f + delta * (1.0f / 6 + delta * (1.0f / 24 + delta * (1.0f / 120 + delta * (1.0f / 720))));
      const float near = p * delta * delta * series;
      block += delta > -0.25f && delta < 0.25f ? near : far;
    }
    total += static_cast<double>(block);
  }
  return static_cast<float>(std::max(total, 0.0));
}

int64_t first_index_of(const float* z, int64_t vocab, float value) {
  return std::find(z, z + vocab, value) - z;
}

}  // namespace

int64_t cross_entropy_workspace(int64_t vocab_size) { return rows_per_chunk(vocab_size) * vocab_size; }

void cross_entropy(int64_t n, int64_t d, int64_t vocab, const float* hidden, const float* head,
                   const int32_t* targets, float grad_scale, float* nll, float* dhidden, float* dhead,
                   float* workspace) {
  const int64_t chunk_rows = rows_per_chunk(vocab);
  for (int64_t first = 0; first < n; first += chunk_rows) {
    const int64_t rows = std::min(chunk_rows, n - first);
    const float* h = hidden + first * d;
    gemm(false, true, rows, vocab, d, h, d, head, d, 0.0f, workspace, vocab);
#pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < rows; ++i) {
      float* z = workspace + i * vocab;
      const int32_t target = targets[first + i];
      if (dhidden) {
        nll[first + i] = differentiate_row(vocab, target, grad_scale, z);
      } else {
        nll[first + i] = target < 0
                             ? 0.0f
                             : negative_log_likelihood(target, z, log_sum_exp(vocab, z, max_value(vocab, z)));
      }
    }
    if (dhidden) gemm(false, false, rows, d, vocab, workspace, vocab, head, d, 0.0f, dhidden + first * d, d);
    if (dhead) gemm(true, false, vocab, d, rows, workspace, vocab, h, d, 1.0f, dhead, d);
  }
}

int64_t cross_entropy_compare_workspace(int64_t vocab_size) {
  return 2 * compare_rows(vocab_size) * vocab_size;
}

void cross_entropy_compare(int64_t n, int64_t d, int64_t vocab, const float* clean, const float* hidden,
                           const float* head, const int32_t* targets, float* nll, float* kl, int32_t* flipped,
                           float* workspace) {
  const int64_t chunk_rows = compare_rows(vocab);
  float* other = workspace + chunk_rows * vocab;
  for (int64_t first = 0; first < n; first += chunk_rows) {
    const int64_t rows = std::min(chunk_rows, n - first);
    gemm(false, true, rows, vocab, d, clean + first * d, d, head, d, 0.0f, workspace, vocab);
    gemm(false, true, rows, vocab, d, hidden + first * d, d, head, d, 0.0f, other, vocab);
#pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < rows; ++i) {
      const float* z = workspace + i * vocab;
      const float* z_other = other + i * vocab;
      const float top = max_value(vocab, z);
      const float top_other = max_value(vocab, z_other);
      const double lse = log_sum_exp(vocab, z, top);
      const double lse_other = log_sum_exp(vocab, z_other, top_other);
      nll[first + i] = negative_log_likelihood(targets[first + i], z_other, lse_other);
      kl[first + i] = divergence(vocab, z, lse, z_other, lse_other);
      flipped[first + i] = first_index_of(z, vocab, top) != first_index_of(z_other, vocab, top_other);
    }
  }
}

}  // namespace depthroute::cpu
