// Output head and softmax cross-entropy in chunks of rows. The logits of
// one chunk live in the workspace and become their own gradient in place;
// two GEMMs of the chunk's size then give the gradients of hidden and head.
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/indices.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/op_table.h"

namespace depthroute::cpu {

namespace {

// Rows of logits held at once. For each chunk GEMM packs the whole head again and adds to all of dhead, so
// fewer rows cost bandwidth and more rows cost memory: 64 MiB of logits, but at least kMinRows. With a
// vocabulary of 151936, GEMM ran at 71-76 % of its rate with 128 rows, at 85 % with 256, and at 88 % with 512
// (297 MiB).
constexpr int64_t kBudget = int64_t{16} << 20;  // floats
constexpr int64_t kMinRows = 512;
constexpr int64_t kMaxRows = 1024;

int64_t rows_per_chunk(int64_t vocab) { return std::clamp(kBudget / vocab, kMinRows, kMaxRows); }
// A comparison holds two logits per class: half the rows fit into the same memory.
int64_t compare_rows(int64_t vocab) { return rows_per_chunk(vocab) / 2; }

// Values of a row summed in float32 before the sum goes on in float64.
constexpr int64_t kBlock = 2048;

// Returns the sum of exp(z - highest). Overwrites z with the exponentials unless Float is const.
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

// Replaces z by d(scale * nll)/dz = scale * (softmax(z) - [target]). Returns nll.
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
  return static_cast<float>(lse - static_cast<double>(z[target]));
}

// KL(p || q) = sum of p (exp(delta) - 1 - delta) with delta = log q - log p. Equal to the sum of
// p (log p - log q), because p and q both add up to 1, but every term is >= 0 and of second order, so nothing
// cancels when q is close to p.
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

int64_t cross_entropy_workspace(Device, DType, int64_t, int64_t vocab_size) {
  return rows_per_chunk(vocab_size) * vocab_size;
}

void cross_entropy(Stream, const Tensor& hidden, const Tensor& head, const Tensor& targets, float grad_scale,
                   const Tensor& nll, const Tensor& dhidden, const Tensor& dhead, const Tensor& workspace) {
  const int64_t n = hidden.rows(), d = hidden.cols(), vocab = head.rows();
  const int64_t chunk_rows = rows_per_chunk(vocab);
  const int32_t* const target_of = checked_indices(targets, -1, vocab);
  const float *const hidden_rows = hidden.data<float>(), *const head_rows = head.data<float>();
  float *const logits = workspace.data<float>(), *const nll_of = nll.data<float>();
  const bool differentiate = dhidden.defined();
  for (int64_t first = 0; first < n; first += chunk_rows) {
    const int64_t rows = std::min(chunk_rows, n - first);
    const float* h = hidden_rows + first * d;
    sgemm(false, true, rows, vocab, d, h, d, head_rows, d, 0.0f, logits, vocab);
#pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < rows; ++i) {
      float* z = logits + i * vocab;
      const int32_t target = target_of[first + i];
      float& result = nll_of[first + i];
      if (differentiate)
        result = differentiate_row(vocab, target, grad_scale, z);
      else if (target < 0)
        result = 0.0f;
      else
        result = negative_log_likelihood(target, z, log_sum_exp(vocab, z, max_value(vocab, z)));
    }
    if (differentiate)
      sgemm(false, false, rows, d, vocab, logits, vocab, head_rows, d, 0.0f,
            dhidden.data<float>() + first * d, d);
    if (dhead.defined())
      sgemm(true, false, vocab, d, rows, logits, vocab, h, d, 1.0f, dhead.data<float>(), d);
  }
}

int64_t cross_entropy_compare_workspace(Device, DType, int64_t, int64_t vocab_size) {
  return 2 * compare_rows(vocab_size) * vocab_size;
}

void cross_entropy_compare(Stream, const Tensor& clean, const Tensor& hidden, const Tensor& head,
                           const Tensor& targets, const Tensor& nll, const Tensor& kl, const Tensor& flipped,
                           const Tensor& hit, const Tensor& workspace) {
  const int64_t n = clean.rows(), d = hidden.cols(), vocab = head.rows(), compared = hidden.rows() / n;
  const int64_t chunk_rows = compare_rows(vocab);
  const int32_t* const target_of = checked_indices(targets, -1, vocab);
  const float *const clean_rows = clean.data<float>(), *const hidden_rows = hidden.data<float>();
  const float* const head_rows = head.data<float>();
  float *const logits = workspace.data<float>(), *const other = logits + chunk_rows * vocab;
  float *const nll_of = nll.data<float>(), *const kl_of = kl.data<float>();
  int32_t *const flipped_of = flipped.data<int32_t>(), *const hit_of = hit.data<int32_t>();
  for (int64_t first = 0; first < n; first += chunk_rows) {
    const int64_t rows = std::min(chunk_rows, n - first);
    sgemm(false, true, rows, vocab, d, clean_rows + first * d, d, head_rows, d, 0.0f, logits, vocab);
    for (int64_t k = 0; k < compared; ++k) {
      // The same product for as many rows, so equal hidden states give the same logits, bit for bit.
      sgemm(false, true, rows, vocab, d, hidden_rows + (k * n + first) * d, d, head_rows, d, 0.0f, other,
            vocab);
#pragma omp parallel for schedule(dynamic)
      for (int64_t i = 0; i < rows; ++i) {
        const float* z = logits + i * vocab;
        const float* z_other = other + i * vocab;
        const int64_t row = k * n + first + i;
        const int32_t target = target_of[first + i];
        if (target < 0) {
          nll_of[row] = kl_of[row] = 0;
          flipped_of[row] = hit_of[row] = 0;
          continue;
        }
        const float top = max_value(vocab, z);
        const float top_other = max_value(vocab, z_other);
        const double lse = log_sum_exp(vocab, z, top);
        const double lse_other = log_sum_exp(vocab, z_other, top_other);
        const int64_t choice = first_index_of(z_other, vocab, top_other);
        nll_of[row] = negative_log_likelihood(target, z_other, lse_other);
        kl_of[row] = divergence(vocab, z, lse, z_other, lse_other);
        flipped_of[row] = first_index_of(z, vocab, top) != choice;
        hit_of[row] = choice == target;
      }
    }
  }
}

}  // namespace depthroute::cpu
