// Depth routing, forward: the residual addition, the softmax over depth, the mix and the RMSNorm after it, in
// one pass over the sources.
//
//   V_{n-1} += add;  r_j = 1/sqrt(mean(V_j^2) + key_eps);  c_j = u . V_j
//   logit_j = r_j c_j + offset_j (+ bias);  a = softmax(logit);  h = sum_j scale_j a_j V_j
//   output = RMSNorm(h)
//
// A team of warps (routing.cuh) takes one token. Sources come in chunks of kSources, the current state first:
// all loads of a chunk are issued before the first is used, its sums of squares and products are reduced
// together, and the chunk is added to h from registers. The softmax is online: m is the largest logit so far,
// and h, the sum of exp(logit_j - m) scale_j V_j, is rescaled when a chunk raises m. Each lane keeps the
// results for sources `lane` and `lane + 32`, so that one pass over lanes at the end gives the weights.
// With given weights (kGiven) there are no logits, and sources with a weight of 0 are not loaded.
//
// Memory traffic per token, in rows of D: n + 1 (sources, output), 2 more with `add`; u and norm_weight
// stay in L1. Sites that share sources can read those once, in a phase of its own (routing_read_finished.cu,
// routing_merge.cu). At n = 9 that is 12 rows: 24 KB in bf16 at D = 1024, 7.3 ns of an H100's 3.35 TB/s.
#include <cmath>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/routing.cuh"
#include "kernels/cuda/routing_merge.h"
#include "kernels/op_table.h"

namespace depthroute::cuda {
namespace {

template <typename T>
struct ForwardArguments {
  // The sources that are not dropped; the current state first, if it is one of them.
  int count;
  const T* source[kMaxSources];  // [N or R, D]
  uint32_t rows[kMaxSources];    // R of a replaced source, 0: N
  uint8_t place[kMaxSources];    // among the site's sources
  bool is_current[kMaxSources];  // the same tensor as the current state
  float bias[kMaxSources], scale[kMaxSources];
  int n;                          // sources of the site
  T* current;                     // [N,D] or nullptr: nothing is added
  const T* add;                   // [N,D]
  const float *query, *key_norm;  // [D] or nullptr
  const float* recency_bias;      // [1] or nullptr
  const float* norm_weight;       // [D]
  float key_eps, norm_eps;
  float *weights, *inv_rms, *dots;  // [N,n]
  float* rstd;                      // [N]
  T* output;                        // [N,D]
  float* inverse_norm;              // [D] or nullptr
  const float* given;               // [given_rows,n] or nullptr
  uint32_t given_rows;
};

/// What a lane keeps of a source.
struct Kept {
  float logit = -INFINITY, inv_rms = 0, dot = 0;
};

template <typename T, int kWarps, bool kGiven>
__global__ __launch_bounds__(team_threads(kWarps), team_blocks<T>(kWarps)) void routing_forward_kernel(
    const __grid_constant__ ForwardArguments<T> a, int64_t n_tokens, int d) {
  constexpr int kSources = kWarps == kLargeTeam ? 1 : 4;
  DR_DYNAMIC_SHARED(float, shared);
  Team<kWarps> team(shared);
  const int64_t token = static_cast<int64_t>(blockIdx.x) * team.tokens + team.token;
  if (token >= n_tokens) return;  // a whole team; teams that share a block have no barriers
  const int64_t row = token * d;
  const int lane = team.thread % kWarp;
  const float* const given =
      kGiven ? a.given + static_cast<int64_t>(static_cast<uint32_t>(token) % a.given_rows) * a.n : nullptr;

  float h[kTeamPacks][kPack];
#pragma unroll
  for (auto& pack : h)
#pragma unroll
    for (float& x : pack) x = 0;
  float largest = -INFINITY;
  Kept low, high;

  for (int first = 0; first < max(a.count, 1); first += kSources) {
    float factor[kSources];
    if constexpr (kGiven) {
#pragma unroll
      for (int k = 0; k < kSources; ++k)
        factor[k] = first + k < a.count ? a.scale[first + k] * given[a.place[first + k]] : 0.0f;
    }
    RawPack<T> raw[kSources][kTeamPacks];
#pragma unroll
    for (int k = 0; k < kSources; ++k) {
      const int s = first + k;
      bool reads = s < a.count && !(first == 0 && a.add && a.is_current[s]);
      if constexpr (kGiven) reads = reads && factor[k] != 0;
      const int64_t from = !reads ? 0 : (a.rows[s] ? static_cast<uint32_t>(token) % a.rows[s] : token) * d;
#pragma unroll
      for (int i = 0; i < kTeamPacks; ++i) {
        const Column column = team.column(i, d);
        raw[k][i] = reads && column.inside ? load_raw(a.source[s] + from + column.at) : RawPack<T>{};
      }
    }
    if (first == 0 && a.add) {
#pragma unroll
      for (int i = 0; i < kTeamPacks; ++i) {
        const Column column = team.column(i, d);
        if (!column.inside) continue;
        Pack sum = load_pack(a.current + row + column.at);
        const Pack added = load_pack(a.add + row + column.at);
#pragma unroll
        for (int e = 0; e < kPack; ++e) sum.x[e] += added.x[e];
        const RawPack<T> rounded = pack_raw(sum, T{});
        store_raw(a.current + row + column.at, rounded);
#pragma unroll
        for (int k = 0; k < kSources; ++k)
          if (k < a.count && a.is_current[k]) raw[k][i] = rounded;
      }
    }

    float rescale = 1;
    if constexpr (!kGiven) {
      float sums[2 * kSources] = {};  // of squares, then products with u
      if (a.query) {
#pragma unroll
        for (int i = 0; i < kTeamPacks; ++i) {
          const Column column = team.column(i, d);
          if (!column.inside) continue;
          const Pack query = load_pack(a.query + column.at), key_norm = load_pack(a.key_norm + column.at);
#pragma unroll
          for (int k = 0; k < kSources; ++k) {
            const Pack v = unpack(raw[k][i]);
#pragma unroll
            for (int e = 0; e < kPack; ++e) {
              sums[k] += v.x[e] * v.x[e];
              sums[kSources + k] += v.x[e] * (query.x[e] * key_norm.x[e]);
            }
          }
        }
        team.sum_each(sums);
      }

      float chunk_largest = largest;
#pragma unroll
      for (int k = 0; k < kSources; ++k) {
        const int s = first + k;
        Kept kept;
        if (s < a.count) {
          kept.inv_rms = a.query ? rsqrtf(sums[k] / static_cast<float>(d) + a.key_eps) : 0.0f;
          kept.dot = sums[kSources + k];
          kept.logit = kept.inv_rms * kept.dot + a.bias[s];
          if (a.recency_bias && a.place[s] == a.n - 1) kept.logit += a.recency_bias[0];
          if (a.place[s] % kWarp == lane) (a.place[s] < kWarp ? low : high) = kept;
        }
        factor[k] = kept.logit;
        chunk_largest = fmaxf(chunk_largest, kept.logit);
      }
      rescale = expf(largest - chunk_largest);
      largest = chunk_largest;
#pragma unroll
      for (int k = 0; k < kSources; ++k)
        factor[k] = first + k < a.count ? a.scale[first + k] * expf(factor[k] - largest) : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < kTeamPacks; ++i) {
#pragma unroll
      for (float& x : h[i]) x *= rescale;
#pragma unroll
      for (int k = 0; k < kSources; ++k) {
        if (kGiven && factor[k] == 0) continue;  // the sum of state and `add` may be NaN
        const Pack v = unpack(raw[k][i]);
#pragma unroll
        for (int e = 0; e < kPack; ++e) h[i][e] += factor[k] * v.x[e];
      }
    }
  }

  // Weights times their total.
  float exp_low, exp_high, total = 1;
  if constexpr (kGiven) {
    exp_low = lane < a.n ? given[lane] : 0.0f;
    exp_high = lane + kWarp < a.n ? given[lane + kWarp] : 0.0f;
  } else {
    exp_low = expf(low.logit - largest);
    exp_high = expf(high.logit - largest);
    total = warp_sum(exp_low + exp_high);
  }
  if (team.in_first_warp()) {
    const int64_t at = token * a.n;
    if (lane < a.n) {
      a.weights[at + lane] = exp_low / total;
      a.inv_rms[at + lane] = low.inv_rms;
      a.dots[at + lane] = low.dot;
    }
    if (lane + kWarp < a.n) {
      a.weights[at + lane + kWarp] = exp_high / total;
      a.inv_rms[at + lane + kWarp] = high.inv_rms;
      a.dots[at + lane + kWarp] = high.dot;
    }
  }

  float squares[1] = {};
#pragma unroll
  for (auto& pack : h)
#pragma unroll
    for (float& x : pack) {
      x /= total;
      squares[0] += x * x;
    }
  team.sum_each(squares);
  const float rstd = rsqrtf(squares[0] / static_cast<float>(d) + a.norm_eps);
  if (team.thread == 0) a.rstd[token] = rstd;
#pragma unroll
  for (int i = 0; i < kTeamPacks; ++i) {
    const Column column = team.column(i, d);
    if (!column.inside) continue;
    const Pack w = norm_factors(a.norm_weight, a.inverse_norm, column.at, token);
    Pack output;
#pragma unroll
    for (int e = 0; e < kPack; ++e) output.x[e] = h[i][e] * (rstd * w.x[e]);
    store_pack(a.output + row + column.at, output);
  }
}

template <typename T>
ForwardArguments<T> forward_arguments(const RoutingSite& site, const Tensor& add, const Tensor& output) {
  const size_t n = site.sources.size();
  const Tensor& current = site.sources[n - 1];
  const int64_t n_tokens = output.rows();
  ForwardArguments<T> a{};
  const auto take = [&](size_t j) {
    if (site.drops(j)) return;
    const Tensor& source = site.sources[j];
    const int s = a.count++;
    a.source[s] = pointer<T>(source);
    a.rows[s] = source.rows() == n_tokens ? 0 : static_cast<uint32_t>(source.rows());
    a.place[s] = static_cast<uint8_t>(j);
    a.is_current[s] = source.pointer == current.pointer;
    a.bias[s] = site.offset_of(j);
    a.scale[s] = site.scale_of(j);
  };
  take(n - 1);
  for (size_t j = 0; j + 1 < n; ++j) take(j);
  a.n = static_cast<int>(n);
  a.current = pointer<T>(current);
  a.add = pointer<T>(add);
  a.query = pointer<float>(site.query);
  a.key_norm = pointer<float>(site.key_norm);
  a.recency_bias = pointer<float>(site.recency_bias);
  a.given = pointer<float>(site.given);
  a.given_rows = site.given.defined() ? static_cast<uint32_t>(site.given.rows()) : 1;
  a.norm_weight = pointer<float>(site.norm_weight);
  a.key_eps = site.key_eps;
  a.norm_eps = site.norm_eps;
  a.weights = pointer<float>(site.weights);
  a.inv_rms = pointer<float>(site.inv_rms);
  a.dots = pointer<float>(site.dots);
  a.rstd = pointer<float>(site.rstd);
  a.output = pointer<T>(output);
  a.inverse_norm = pointer<float>(site.inverse_norm);
  return a;
}

}  // namespace

void routing_forward(Stream stream, const RoutingSite& site, const Tensor& add, const Tensor& output) {
  const int64_t n_tokens = output.rows(), d = output.cols();
  if (n_tokens == 0) return;
  DR_CHECK(site.sources.size() <= kMaxSources && n_tokens < int64_t{1} << 31);
  if (site.partial.defined()) return routing_merge(stream, site, add, output);
  const TeamLaunch shape = team_launch(d);
  with_activation_type(output.dtype, [&]<typename T>() {
    const auto choose = [&]<bool kGiven>() {
      return shape.warps == 1             ? routing_forward_kernel<T, 1, kGiven>
             : shape.warps == kMediumTeam ? routing_forward_kernel<T, kMediumTeam, kGiven>
                                          : routing_forward_kernel<T, kLargeTeam, kGiven>;
    };
    const auto kernel =
        site.given.defined() ? choose.template operator()<true>() : choose.template operator()<false>();
    launch(kernel, dim3(static_cast<unsigned>(div_ceil(n_tokens, int64_t{shape.tokens}))),
           dim3(static_cast<unsigned>(shape.threads)), shape.shared_bytes, handle(stream),
           forward_arguments<T>(site, add, output), n_tokens, static_cast<int>(d));
  });
}

}  // namespace depthroute::cuda
