// Depth routing, forward, second of two phases: the residual addition, the read of the current state alone,
// its merge with the partial mix of the finished blocks (routing_read_finished.cu), and the RMSNorm after it.
// With s = r c + bias of the current state V and m = max(lse, s):
//
//   V += add;  a_n = exp(s - m) / (exp(lse - m) + exp(s - m));  a_j *= 1 - a_n, as exp(lse - m) / (...)
//   h = exp(lse - m) / (...) partial + scale_n a_n V;  output = RMSNorm(h)
//
// A team of warps (routing.cuh) takes one token and loads all its rows before it uses the first.
//
// Memory traffic per token, in rows of D: 3 (V, partial, output), 2 more with `add`.
#include <cmath>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/routing.cuh"
#include "kernels/cuda/routing_merge.h"

namespace depthroute::cuda {
namespace {

template <typename T>
struct MergeArguments {
  int n;                          // sources of the site
  T* current;                     // [N,D]
  bool reads;                     // the current state is not dropped
  const T* add;                   // [N,D] or nullptr
  const T* partial;               // [N,D]; may be output
  const float* lse;               // [N]
  const float *query, *key_norm;  // [D] or nullptr
  const float* recency_bias;      // [1] or nullptr
  float bias, scale;              // of the current state
  const float* norm_weight;       // [D]
  float key_eps, norm_eps;
  float *weights, *inv_rms, *dots;  // [N,n]
  float* rstd;                      // [N]
  T* output;                        // [N,D]
  float* inverse_norm;              // [D] or nullptr
};

template <typename T, int kWarps>
__global__ __launch_bounds__(team_threads(kWarps), team_blocks<T>(kWarps)) void routing_merge_kernel(
    const __grid_constant__ MergeArguments<T> a, int64_t n_tokens, int d) {
  DR_DYNAMIC_SHARED(float, shared);
  Team<kWarps> team(shared);
  const int64_t token = static_cast<int64_t>(blockIdx.x) * team.tokens + team.token;
  if (token >= n_tokens) return;  // a whole team; teams that share a block have no barriers
  const int64_t row = token * d;
  const float lse = a.lse[token];

  RawPack<T> current[kTeamPacks], added[kTeamPacks], partial[kTeamPacks];
#pragma unroll
  for (int i = 0; i < kTeamPacks; ++i) {
    const Column column = team.column(i, d);
    const int64_t at = row + column.at;
    const bool needed = column.inside && (a.reads || a.add);
    current[i] = needed ? load_raw(a.current + at) : RawPack<T>{};
    added[i] = column.inside && a.add ? load_raw(a.add + at) : RawPack<T>{};
    partial[i] = column.inside ? load_raw(a.partial + at) : RawPack<T>{};
  }
  if (a.add) {
#pragma unroll
    for (int i = 0; i < kTeamPacks; ++i) {
      const Column column = team.column(i, d);
      if (!column.inside) continue;
      Pack sum = unpack(current[i]);
      const Pack addend = unpack(added[i]);
#pragma unroll
      for (int e = 0; e < kPack; ++e) sum.x[e] += addend.x[e];
      current[i] = pack_raw(sum, T{});
      store_raw(a.current + row + column.at, current[i]);
      if (!a.reads) current[i] = RawPack<T>{};
    }
  }

  float sums[2] = {};  // of squares, then products with u
  if (a.query && a.reads) {
#pragma unroll
    for (int i = 0; i < kTeamPacks; ++i) {
      const Column column = team.column(i, d);
      if (!column.inside) continue;
      const Pack query = load_pack(a.query + column.at), key_norm = load_pack(a.key_norm + column.at);
      const Pack v = unpack(current[i]);
#pragma unroll
      for (int e = 0; e < kPack; ++e) {
        sums[0] += v.x[e] * v.x[e];
        sums[1] += v.x[e] * (query.x[e] * key_norm.x[e]);
      }
    }
    team.sum_each(sums);
  }
  const float inv_rms = a.query && a.reads ? rsqrtf(sums[0] / static_cast<float>(d) + a.key_eps) : 0.0f;
  const float dot = sums[1];
  float logit = inv_rms * dot + a.bias;
  if (a.recency_bias) logit += a.recency_bias[0];
  const float largest = fmaxf(lse, logit);
  const float exp_finished = expf(lse - largest), exp_current = expf(logit - largest);
  const float total = exp_finished + exp_current;
  const float finished = exp_finished / total, weight = exp_current / total;
  if (team.in_first_warp()) {
    const int64_t at = token * a.n;
    for (int j = team.thread; j + 1 < a.n; j += kWarp) a.weights[at + j] *= finished;
    if (team.thread == 0) {
      a.weights[at + a.n - 1] = weight;
      a.inv_rms[at + a.n - 1] = inv_rms;
      a.dots[at + a.n - 1] = dot;
    }
  }

  float h[kTeamPacks][kPack];
  float squares[1] = {};
  const float to_current = a.scale * weight;
#pragma unroll
  for (int i = 0; i < kTeamPacks; ++i) {
    const Pack v = unpack(current[i]), others = unpack(partial[i]);
#pragma unroll
    for (int e = 0; e < kPack; ++e) {
      h[i][e] = finished * others.x[e] + to_current * v.x[e];
      squares[0] += h[i][e] * h[i][e];
    }
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
MergeArguments<T> merge_arguments(const RoutingSite& site, const Tensor& add, const Tensor& output) {
  const size_t last = site.sources.size() - 1;
  return {.n = static_cast<int>(site.sources.size()),
          .current = pointer<T>(site.sources[last]),
          .reads = !site.drops(last),
          .add = pointer<T>(add),
          .partial = pointer<T>(site.partial),
          .lse = pointer<float>(site.partial_lse),
          .query = pointer<float>(site.query),
          .key_norm = pointer<float>(site.key_norm),
          .recency_bias = pointer<float>(site.recency_bias),
          .bias = site.offset_of(last),
          .scale = site.scale_of(last),
          .norm_weight = pointer<float>(site.norm_weight),
          .key_eps = site.key_eps,
          .norm_eps = site.norm_eps,
          .weights = pointer<float>(site.weights),
          .inv_rms = pointer<float>(site.inv_rms),
          .dots = pointer<float>(site.dots),
          .rstd = pointer<float>(site.rstd),
          .output = pointer<T>(output),
          .inverse_norm = pointer<float>(site.inverse_norm)};
}

}  // namespace

void routing_merge(Stream stream, const RoutingSite& site, const Tensor& add, const Tensor& output) {
  const int64_t n_tokens = output.rows(), d = output.cols();
  const TeamLaunch shape = team_launch(d);
  with_activation_type(output.dtype, [&]<typename T>() {
    const auto kernel = shape.warps == 1             ? routing_merge_kernel<T, 1>
                        : shape.warps == kMediumTeam ? routing_merge_kernel<T, kMediumTeam>
                                                     : routing_merge_kernel<T, kLargeTeam>;
    launch(kernel, dim3(static_cast<unsigned>(div_ceil(n_tokens, int64_t{shape.tokens}))),
           dim3(static_cast<unsigned>(shape.threads)), shape.shared_bytes, handle(stream),
           merge_arguments<T>(site, add, output), n_tokens, static_cast<int>(d));
  });
}

}  // namespace depthroute::cuda
