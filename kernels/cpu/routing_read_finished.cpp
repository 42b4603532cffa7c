// Depth routing, forward, first of two phases: what the sites of a block read from finished blocks. Each
// source's row is read once from memory for all sites, and again from the cache.
#include <algorithm>
#include <vector>

#include "kernels/cpu/routing_math.h"
#include "kernels/cpu/routing_read.h"
#include "kernels/op_table.h"

namespace depthroute::cpu {
namespace {

/// One site's arguments and what it writes.
struct FinishedSite {
  explicit FinishedSite(const RoutingSite& site)
      : args(site),
        key_eps(site.key_eps),
        weights(site.weights.data<float>()),
        inv_rms(site.inv_rms.data<float>()),
        dots(site.dots.data<float>()),
        partial(site.partial.data<float>()),
        lse(site.partial_lse.data<float>()) {}

  RoutingArguments args;
  float key_eps;
  float *weights, *inv_rms, *dots, *partial, *lse;
};

/// Writes the mix of one token's sources.
void write_mix(const Mix& mix, int64_t d, float* partial) {
  for_columns<4>(0, d, [&]<typename T>(int64_t i) { at<T>(partial + i) = mix.at_column<T>(i); });
}

}  // namespace

void routing_read_finished(Stream, std::span<const RoutingSite> sites) {
  const std::vector<FinishedSite> prepared(sites.begin(), sites.end());
  const int64_t n_tokens = sites[0].partial.rows(), d = sites[0].partial.cols();
  const int n = prepared[0].args.n, finished = n - 1;

#pragma omp parallel for schedule(static)
  for (int64_t token = 0; token < n_tokens; ++token) {
    const int64_t next = std::min(token + 1, n_tokens - 1);
    for (int j = 0; j < finished; ++j) {
      const float* next_row = prepared[0].args.row(j, next, d);
      for (const FinishedSite& site : prepared) {
        const float* const row = site.args.row(j, token, d);
        Statistics s{0, 0};
        if (site.args.query && !site.args.dropped[j]) {
          s = statistics(site.args, row, next_row, d, site.key_eps);
          next_row = row;  // prefetched once
        }
        site.inv_rms[token * n + j] = s.inv_rms;
        site.dots[token * n + j] = s.dot;
        site.weights[token * n + j] = s.inv_rms * s.dot + site.args.bias[j];
      }
    }
    for (const FinishedSite& site : prepared) {
      float* const weights = site.weights + token * n;
      site.lse[token] = softmax(finished, weights);
      Mix mix;
      for (int j = 0; j < finished; ++j)
        if (const float factor = site.args.scale[j] * weights[j]; factor != 0.0f)
          mix.add(site.args.row(j, token, d), factor);
      write_mix(mix, d, site.partial + token * d);
    }
  }
}

}  // namespace depthroute::cpu
