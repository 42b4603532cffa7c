// What each source contributes to a site's mix h, in one pass over the sources: a segment of h is formed
// while the sources' columns are in the first-level cache, and multiplied with each of them.
#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/cpu/routing_math.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/op_table.h"

namespace depthroute::cpu {
namespace {

/// Columns at once, summed in float32; sums over segments are float64.
constexpr int64_t kSegment = 512;

/// A token's sources, and the sums over their columns.
struct Sources {
  int n;
  std::array<const float*, kMaxSources> row;  // nullptr: not read
  std::array<float, kMaxSources> factor;      // scale a
  Mix mix;
  std::array<double, kMaxSources> squares{}, with_mix{}, with_current{};
  double mix_squares = 0;

  void sum(int64_t d) {
    const float* const current = row[n - 1];
    for (int64_t begin = 0; begin < d; begin += kSegment) {
      const int64_t end = std::min(d, begin + kSegment), width = end - begin;
      float h[kSegment];
      for_columns<4>(begin, end, [&]<typename T>(int64_t i) { at<T>(h + i - begin) = mix.at_column<T>(i); });
      mix_squares += sum_squares(width, h);
      for (int j = 0; j < n; ++j) {
        if (!row[j]) continue;
        squares[j] += sum_squares(width, row[j] + begin);
        with_mix[j] += dot(width, row[j] + begin, h);
        if (current) with_current[j] += dot(width, row[j] + begin, current + begin);
      }
    }
  }
};

/// 0 where the denominator is 0; NaN stays NaN.
double ratio(double numerator, double denominator) { return denominator == 0 ? 0 : numerator / denominator; }

}  // namespace

void routing_shares(Stream, const RoutingSite& site, const Tensor& norms, const Tensor& projections,
                    const Tensor& cosines) {
  const RoutingArguments args(site);
  const int n = args.n;
  const int64_t n_tokens = norms.rows(), d = site.sources[0].cols();
  const bool given = site.given.defined();
  const float* const weights = site.weights.data<float>();
  float *const norm_rows = norms.data<float>(), *const projection_rows = projections.data<float>();
  float* const cosine_rows = cosines.data<float>();

#pragma omp parallel for schedule(static)
  for (int64_t token = 0; token < n_tokens; ++token) {
    const float* const a = weights + token * n;
    Sources sources;
    sources.n = n;
    for (int j = 0; j < n; ++j) {
      const bool reads = given ? a[j] != 0 : !args.dropped[j];
      sources.row[j] = reads ? args.row(j, token, d) : nullptr;
      sources.factor[j] = args.scale[j] * a[j];
      if (reads && sources.factor[j] != 0) sources.mix.add(sources.row[j], sources.factor[j]);
    }
    sources.sum(d);

    std::array<double, kMaxSources> norm;
    double total = 0;
    for (int j = 0; j < n; ++j) {
      const double factor = sources.factor[j];
      norm[j] = factor == 0 ? 0 : std::abs(factor) * std::sqrt(sources.squares[j]);
      total += norm[j];
    }
    const double current_norm = std::sqrt(sources.squares[n - 1]);
    for (int j = 0; j < n; ++j) {
      const double factor = sources.factor[j];
      norm_rows[token * n + j] = static_cast<float>(ratio(norm[j], total));
      projection_rows[token * n + j] =
          static_cast<float>(factor == 0 ? 0 : ratio(factor * sources.with_mix[j], sources.mix_squares));
      cosine_rows[token * n + j] =
          static_cast<float>(ratio(sources.with_current[j], std::sqrt(sources.squares[j]) * current_norm));
    }
  }
}

}  // namespace depthroute::cpu
