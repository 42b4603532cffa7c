// Depth routing, forward, in one pass over the tokens: a token's sources are read once from memory, for their
// statistics, and once more from the cache, for the mix.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/routing_math.h"
#include "kernels/op_table.h"

namespace depthroute::cpu {
namespace {

// Columns summed in float32 before the sum goes on in float64, so that the error does not grow with D.
constexpr int64_t kSegment = 2048;

struct Statistics {
  float inv_rms, dot;
};

/// Returns the inverse RMS of a source's row and its product with u = query * key_norm. Prefetches `next`,
/// the row that is read next.
Statistics statistics(const RoutingArguments& args, const float* row, const float* next, int64_t d,
                      float eps) {
  double squares = 0, products = 0;
  for (int64_t begin = 0; begin < d; begin += kSegment) {
    Block<4> square{}, product{};
    for_columns<4>(begin, std::min(d, begin + kSegment), [&]<typename T>(int64_t i) {
      prefetch<T>(next + i);
      const T v = load<T>(row + i);
      const T u = load<T>(args.query + i) * load<T>(args.key_norm + i);
      accumulate(square, T(v * v));
      accumulate(product, T(v * u));
    });
    squares += total(square);
    products += total(product);
  }
  return {static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(d) + eps)),
          static_cast<float>(products)};
}

/// Turns n logits into weights, in place; -inf gives exactly 0, a single finite logit exactly 1.
void softmax(int n, float* logits) {
  float largest = logits[0];
  for (int j = 1; j < n; ++j) largest = logits[j] > largest ? logits[j] : largest;
  float total = 0;
  for (int j = 0; j < n; ++j) {
    logits[j] = fast_exp(logits[j] - largest);
    total += logits[j];
  }
  for (int j = 0; j < n; ++j) logits[j] /= total;
}

/// Writes the mix h to `mixed` and RMSNorm(h) to `output`; returns the inverse RMS. `mixed` may be `output`.
float mix_and_normalise(const Mix& mix, int64_t d, float eps, const float* norm_weight, float* mixed,
                        float* output) {
  double squares = 0;
  for (int64_t begin = 0; begin < d; begin += kSegment) {
    Block<4> square{};
    for_columns<4>(begin, std::min(d, begin + kSegment), [&]<typename T>(int64_t i) {
      const T h = mix.at_column<T>(i);
      at<T>(mixed + i) = h;
      accumulate(square, T(h * h));
    });
    squares += total(square);
  }
  const float rstd = static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(d) + eps));
  for_columns<4>(0, d, [&]<typename T>(int64_t i) {
    at<T>(output + i) = rstd * (load<T>(norm_weight + i) * load<T>(mixed + i));
  });
  return rstd;
}

}  // namespace

void routing_forward(Stream, const RoutingSite& site, const Tensor& add, const Tensor& output) {
  const RoutingArguments args(site);
  const int n = args.n;
  const int64_t n_tokens = output.rows(), d = output.cols();
  const float* const added = add.defined() ? add.data<float>() : nullptr;
  float* const output_rows = output.data<float>();
  float* weights = site.weights.data<float>();
  // May be `weights`: a token's row is copied onto itself then.
  const float* const given = site.given.defined() ? site.given.data<float>() : nullptr;
  const int64_t given_rows = given ? site.given.rows() : 1;
  float* inv_rms = site.inv_rms.data<float>();
  float* dots = site.dots.data<float>();
  float* rstd = site.rstd.data<float>();
  const float* norm_weight = site.norm_weight.data<float>();
  // If the mix is the source itself, there is nothing to write.
  float* kept = site.mix.defined() && site.mix.pointer != site.sources[n - 1].pointer ? site.mix.data<float>()
                                                                                      : nullptr;

#pragma omp parallel for schedule(static)
  for (int64_t token = 0; token < n_tokens; ++token) {
    const int64_t row = token * d, next = std::min(token + 1, n_tokens - 1);
    float* a = weights + token * n;
    // Before anything is read: the last source may be one of the others, too.
    if (added) {
      float* current = args.source[n - 1] + row;
      for_columns<4>(0, d, [&]<typename T>(int64_t i) { at<T>(current + i) += load<T>(added + row + i); });
    }

    const float* const fixed = given ? given + token % given_rows * n : nullptr;
    for (int j = 0; j < n; ++j) {
      Statistics s{0, 0};
      if (args.query && !fixed && !args.dropped[j])
        s = statistics(args, args.row(j, token, d), args.row(j, next, d), d, site.key_eps);
      inv_rms[token * n + j] = s.inv_rms;
      dots[token * n + j] = s.dot;
      a[j] = fixed ? fixed[j] : s.inv_rms * s.dot + args.bias[j];
    }
    if (!fixed) softmax(n, a);

    Mix mix;
    for (int j = 0; j < n; ++j)
      if (const float factor = args.scale[j] * a[j]; factor != 0.0f) mix.add(args.row(j, token, d), factor);
    rstd[token] = mix_and_normalise(mix, d, site.norm_eps, norm_weight, (kept ? kept : output_rows) + row,
                                    output_rows + row);
  }
}

}  // namespace depthroute::cpu
