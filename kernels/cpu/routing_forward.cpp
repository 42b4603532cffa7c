// Depth routing, forward: one pass over the tokens; a token's sources are read from memory once (for their
// statistics) and a second time from the cache (for the mix).
#include <algorithm>
#include <cmath>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/routing_math.h"

namespace depthroute::cpu {
namespace {

// float32 sums are joined in float64 every so many columns, so that their error does not grow with D.
constexpr int64_t kSegment = 2048;

struct Statistics {
  float inv_rms, dot;
};

/// Inverse RMS of a source's row and its product with u = query * key_norm. `next` is the row to be read
/// next.
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

/// In place, n logits to weights; -inf gives exactly 0, a single finite logit exactly 1.
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

/// h = the mix, output = RMSNorm(h); returns the inverse RMS. h may be `output`, where nobody keeps it.
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

void routing_forward(int64_t n_tokens, int64_t d, const ops::RoutingSite& site, const float* add,
                     float* output) {
  const RoutingArguments args(site);
  const int n = args.n;
  float* weights = site.weights.data<float>();
  float* inv_rms = site.inv_rms.data<float>();
  float* dots = site.dots.data<float>();
  float* rstd = site.rstd.data<float>();
  const float* norm_weight = site.norm_weight.data<float>();
  // A mix that is the source itself has been kept already.
  float* kept = site.mix.defined() && site.mix.pointer != site.sources[n - 1].pointer ? site.mix.data<float>()
                                                                                      : nullptr;

#pragma omp parallel for schedule(static)
  for (int64_t token = 0; token < n_tokens; ++token) {
    const int64_t row = token * d, next = std::min(token + 1, n_tokens - 1);
    float* a = weights + token * n;
    // First of all: the last source's tensor may be one of the others as well.
    if (add) {
      float* current = args.source[n - 1] + row;
      for_columns<4>(0, d, [&]<typename T>(int64_t i) { at<T>(current + i) += load<T>(add + row + i); });
    }

    for (int j = 0; j < n; ++j) {
      Statistics s{0, 0};
      if (args.query && !args.dropped[j])
        s = statistics(args, args.row(j, token, d), args.row(j, next, d), d, site.key_eps);
      inv_rms[token * n + j] = s.inv_rms;
      dots[token * n + j] = s.dot;
      a[j] = s.inv_rms * s.dot + args.bias[j];
    }
    softmax(n, a);

    Mix mix;
    for (int j = 0; j < n; ++j)
      if (const float factor = args.scale[j] * a[j]; factor != 0.0f) mix.add(args.row(j, token, d), factor);
    rstd[token] =
        mix_and_normalise(mix, d, site.norm_eps, norm_weight, (kept ? kept : output) + row, output + row);
  }
}

}  // namespace depthroute::cpu
