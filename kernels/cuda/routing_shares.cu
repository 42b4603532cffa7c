// What each source contributes to a site's mix h. A team of warps (routing.cuh) takes one token and reads its
// sources twice: for h, which stays in registers, and, from the cache, for the products with h and with the
// current state. Each lane keeps the results for sources `lane` and `lane + 32`.
#include <cmath>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/routing.cuh"
#include "kernels/op_table.h"

namespace depthroute::cuda {
namespace {

template <typename T>
struct ShareArguments {
  int n;
  bool given;                    // a weight of 0 means that the source is not read
  const T* source[kMaxSources];  // [N or R, D]
  uint32_t rows[kMaxSources];    // R of a replaced source, 0: N
  float scale[kMaxSources];
  bool dropped[kMaxSources];
  const float* weights;                  // [N,n]
  float *norms, *projections, *cosines;  // [N,n]

  __device__ __forceinline__ bool reads(int j, float weight) const {
    return given ? weight != 0 : !dropped[j];
  }
  __device__ __forceinline__ const T* row(int j, int64_t token, int d) const {
    return source[j] + (rows[j] ? static_cast<uint32_t>(token) % rows[j] : token) * d;
  }
};

/// What a lane keeps of a source.
struct Share {
  float norm = 0, projection = 0, cosine = 0;
};

/// 0 where the denominator is 0; NaN stays NaN.
__device__ __forceinline__ float ratio(float numerator, float denominator) {
  return denominator == 0 ? 0.0f : numerator / denominator;
}

template <typename T, int kWarps>
__global__ __launch_bounds__(team_threads(kWarps), team_blocks<T>(kWarps)) void routing_shares_kernel(
    const __grid_constant__ ShareArguments<T> a, int64_t n_tokens, int d) {
  constexpr int kSources = kWarps == kLargeTeam ? 1 : 2;  // loaded at once
  constexpr int kProducts = 4;  // squares, products with h and with the current state; one is unused
  DR_DYNAMIC_SHARED(float, shared);
  Team<kWarps> team(shared);
  const int64_t token = static_cast<int64_t>(blockIdx.x) * team.tokens + team.token;
  if (token >= n_tokens) return;  // a whole team; teams that share a block have no barriers
  const int lane = team.thread % kWarp;
  const float* const weights = a.weights + token * a.n;

  float h[kTeamPacks][kPack] = {};
  for (int first = 0; first < a.n; first += kSources) {
    RawPack<T> raw[kSources][kTeamPacks];
    float factor[kSources];
#pragma unroll
    for (int k = 0; k < kSources; ++k) {
      const int j = first + k;
      factor[k] = j < a.n ? a.scale[j] * weights[j] : 0.0f;
      const T* const from = factor[k] != 0 ? a.row(j, token, d) : nullptr;
#pragma unroll
      for (int i = 0; i < kTeamPacks; ++i) {
        const Column column = team.column(i, d);
        raw[k][i] = from && column.inside ? load_raw(from + column.at) : RawPack<T>{};
      }
    }
#pragma unroll
    for (int i = 0; i < kTeamPacks; ++i)
#pragma unroll
      for (int k = 0; k < kSources; ++k) {
        const Pack v = unpack(raw[k][i]);
#pragma unroll
        for (int e = 0; e < kPack; ++e) h[i][e] += factor[k] * v.x[e];
      }
  }

  RawPack<T> current[kTeamPacks];
  float squares[2] = {};  // of h and of the current state
  const bool reads_current = a.reads(a.n - 1, weights[a.n - 1]);
#pragma unroll
  for (int i = 0; i < kTeamPacks; ++i) {
    const Column column = team.column(i, d);
    current[i] =
        reads_current && column.inside ? load_raw(a.row(a.n - 1, token, d) + column.at) : RawPack<T>{};
    const Pack v = unpack(current[i]);
#pragma unroll
    for (int e = 0; e < kPack; ++e) {
      squares[0] += h[i][e] * h[i][e];
      squares[1] += v.x[e] * v.x[e];
    }
  }
  team.sum_each(squares);
  const float current_norm = sqrtf(squares[1]);

  Share low, high;
  for (int first = 0; first < a.n; first += kSources) {
    RawPack<T> raw[kSources][kTeamPacks];
#pragma unroll
    for (int k = 0; k < kSources; ++k) {
      const int j = first + k;
      const T* const from = j < a.n && a.reads(j, weights[j]) ? a.row(j, token, d) : nullptr;
#pragma unroll
      for (int i = 0; i < kTeamPacks; ++i) {
        const Column column = team.column(i, d);
        raw[k][i] = from && column.inside ? load_raw(from + column.at) : RawPack<T>{};
      }
    }
    float sums[kSources * kProducts] = {};
#pragma unroll
    for (int i = 0; i < kTeamPacks; ++i) {
      const Pack last = unpack(current[i]);
#pragma unroll
      for (int k = 0; k < kSources; ++k) {
        const Pack v = unpack(raw[k][i]);
#pragma unroll
        for (int e = 0; e < kPack; ++e) {
          sums[k * kProducts] += v.x[e] * v.x[e];
          sums[k * kProducts + 1] += v.x[e] * h[i][e];
          sums[k * kProducts + 2] += v.x[e] * last.x[e];
        }
      }
    }
    team.sum_each(sums);
#pragma unroll
    for (int k = 0; k < kSources; ++k) {
      const int j = first + k;
      if (j >= a.n || j % kWarp != lane) continue;
      const float factor = a.scale[j] * weights[j], norm = sqrtf(sums[k * kProducts]);
      Share share;
      if (factor != 0) {
        share.norm = fabsf(factor) * norm;
        share.projection = ratio(factor * sums[k * kProducts + 1], squares[0]);
      }
      // The current state's two sums are the same number: exactly 1.
      share.cosine = ratio(sums[k * kProducts + 2], j == a.n - 1 ? sums[k * kProducts] : norm * current_norm);
      (j < kWarp ? low : high) = share;
    }
  }

  const float total = warp_sum(low.norm + high.norm);
  if (!team.in_first_warp()) return;
  const auto write = [&](int j, const Share& share) {
    if (j >= a.n) return;
    const int64_t at = token * a.n + j;
    a.norms[at] = ratio(share.norm, total);
    a.projections[at] = share.projection;
    a.cosines[at] = share.cosine;
  };
  write(lane, low);
  write(lane + kWarp, high);
}

template <typename T>
ShareArguments<T> share_arguments(const RoutingSite& site, const Tensor& norms, const Tensor& projections,
                                  const Tensor& cosines) {
  ShareArguments<T> a{};
  a.n = static_cast<int>(site.sources.size());
  a.given = site.given.defined();
  for (size_t j = 0; j < site.sources.size(); ++j) {
    const Tensor& source = site.sources[j];
    a.source[j] = pointer<T>(source);
    a.rows[j] = source.rows() == norms.rows() ? 0 : static_cast<uint32_t>(source.rows());
    a.scale[j] = site.scale_of(j);
    a.dropped[j] = site.drops(j);
  }
  a.weights = pointer<float>(site.weights);
  a.norms = pointer<float>(norms);
  a.projections = pointer<float>(projections);
  a.cosines = pointer<float>(cosines);
  return a;
}

}  // namespace

void routing_shares(Stream stream, const RoutingSite& site, const Tensor& norms, const Tensor& projections,
                    const Tensor& cosines) {
  const int64_t n_tokens = norms.rows(), d = site.sources[0].cols();
  if (n_tokens == 0) return;
  DR_CHECK(site.sources.size() <= kMaxSources && n_tokens < int64_t{1} << 31);
  const TeamLaunch shape = team_launch(d);
  with_activation_type(site.sources[0].dtype, [&]<typename T>() {
    const auto kernel = shape.warps == 1             ? routing_shares_kernel<T, 1>
                        : shape.warps == kMediumTeam ? routing_shares_kernel<T, kMediumTeam>
                                                     : routing_shares_kernel<T, kLargeTeam>;
    launch(kernel, dim3(static_cast<unsigned>(div_ceil(n_tokens, int64_t{shape.tokens}))),
           dim3(static_cast<unsigned>(shape.threads)), shape.shared_bytes, handle(stream),
           share_arguments<T>(site, norms, projections, cosines), n_tokens, static_cast<int>(d));
  });
}

}  // namespace depthroute::cuda
