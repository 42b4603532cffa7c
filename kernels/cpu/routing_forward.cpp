// Depth routing, forward, in one pass over the tokens: a token's sources are read once from memory, for their
// statistics, and once more from the cache, for the mix. After a first phase (routing_read_finished.cpp), only
// the last source is read, and merged with the partial mix of the others.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/routing_math.h"
#include "kernels/cpu/routing_read.h"
#include "kernels/op_table.h"

namespace depthroute::cpu {
namespace {

/// Second of two phases: joins the last source's logit, a[n-1], with the softmax among the others, whose
/// log-sum-exp is `lse`. Turns both into the site's weights, and returns the others' total.
float merge(int n, float lse, float* a) {
  const float logit = a[n - 1], largest = lse > logit ? lse : logit;
  const float before = fast_exp(lse - largest), last = fast_exp(logit - largest);
  const float finished = before / (before + last);
  for (int j = 0; j + 1 < n; ++j) a[j] *= finished;
  a[n - 1] = last / (before + last);
  return finished;
}

/// Writes RMSNorm(h) to `output`; returns the inverse RMS.
float mix_and_normalise(const Mix& mix, int64_t d, float eps, const float* norm_factors, float* output) {
  double squares = 0;
  for (int64_t begin = 0; begin < d; begin += kSegment) {
    Block<4> square{};
    for_columns<4>(begin, std::min(d, begin + kSegment), [&]<typename T>(int64_t i) {
      const T h = mix.at_column<T>(i);
      at<T>(output + i) = h;
      accumulate(square, T(h * h));
    });
    squares += total(square);
  }
  const float rstd = static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(d) + eps));
  for_columns<4>(0, d, [&]<typename T>(int64_t i) {
    at<T>(output + i) = rstd * (load<T>(norm_factors + i) * load<T>(output + i));
  });
  return rstd;
}

/// The factors of a site's RMSNorm, and their inverses where those are kept.
std::vector<float> norm_factors(const RoutingSite& site, int64_t d) {
  std::vector<float> factors(static_cast<size_t>(d));
  const float* const weight = site.norm_weight.data<float>();
  for (int64_t i = 0; i < d; ++i) factors[i] = norm_factor(weight[i]);
  if (!site.inverse_norm.defined()) return factors;
  float* const inverse = site.inverse_norm.data<float>();
  for (int64_t i = 0; i < d; ++i) inverse[i] = 1.0F / factors[i];
  return factors;
}

}  // namespace

void routing_forward(Stream, const RoutingSite& site, const Tensor& add, const Tensor& output) {
  const RoutingArguments args(site);
  const int n = args.n;
  const int64_t n_tokens = output.rows(), d = output.cols();
  const float* const added = add.defined() ? add.data<float>() : nullptr;
  const float* const partial = site.partial.defined() ? site.partial.data<float>() : nullptr;
  const float* const partial_lse = partial ? site.partial_lse.data<float>() : nullptr;
  const int first = partial ? n - 1 : 0;
  float* const output_rows = output.data<float>();
  float* weights = site.weights.data<float>();
  // May be `weights`: a token's row is copied onto itself then.
  const float* const given = site.given.defined() ? site.given.data<float>() : nullptr;
  const int64_t given_rows = given ? site.given.rows() : 1;
  float* inv_rms = site.inv_rms.data<float>();
  float* dots = site.dots.data<float>();
  float* rstd = site.rstd.data<float>();
  const std::vector<float> factors = norm_factors(site, d);

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
    for (int j = first; j < n; ++j) {
      Statistics s{0, 0};
      if (args.query && !fixed && !args.dropped[j])
        s = statistics(args, args.row(j, token, d), args.row(j, next, d), d, site.key_eps);
      inv_rms[token * n + j] = s.inv_rms;
      dots[token * n + j] = s.dot;
      a[j] = fixed ? fixed[j] : s.inv_rms * s.dot + args.bias[j];
    }
    Mix mix;
    if (partial) {
      const float factor = merge(n, partial_lse[token], a);
      if (factor != 0.0f) mix.add(partial + row, factor);
    } else if (!fixed) {
      softmax(n, a);
    }
    for (int j = first; j < n; ++j)
      if (const float factor = args.scale[j] * a[j]; factor != 0.0f) mix.add(args.row(j, token, d), factor);
    rstd[token] = mix_and_normalise(mix, d, site.norm_eps, factors.data(), output_rows + row);
  }
}

}  // namespace depthroute::cpu
