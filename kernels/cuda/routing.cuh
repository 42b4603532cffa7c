// What the depth routing kernels share.
//
// Forward and the first part of backward give each token to a "team" of warps,
// whose lanes hold up to kTeamPacks packs of a row each. Up to D = 1024 a team is
// one warp, and four teams share a block that never waits at a barrier. Above that,
// the team is the block, and sums over a row are joined through shared memory.
#pragma once

#include <cstdint>

#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/routing_groups.h"
#include "kernels/cuda/vector.cuh"
#include "kernels/op_types.h"

namespace depthroute::cuda {

using ops::kMaxSources;

inline constexpr int kTeamPacks = 4;   // packs of a row per lane
inline constexpr int kTeamSums = 8;    // most sums a team takes at once
inline constexpr int kLoneTeams = 4;   // teams of one warp in a block
inline constexpr int kMediumTeam = 8;  // warps up to which a team's threads may have 255 registers
inline constexpr int kLargeTeam = 32;  // warps of the largest team: rows of up to 32768 columns

/// Columns [at, at + 8) of a lane's i-th pack, and whether they are inside the row.
struct Column {
  int at;
  bool inside;
};

/// The calling thread's team. kWarps: 1, or the most warps a block of this instantiation has.
template <int kWarps>
struct Team {
  int thread, threads;  // of the team
  int token, tokens;    // of the block: the one the team begins with, and how many at once
  float* shared;        // [2][warps][kTeamSums] for joins
  int joins = 0;

  __device__ __forceinline__ explicit Team(float* shared_memory) : shared(shared_memory) {
    const int index = static_cast<int>(threadIdx.x), size = static_cast<int>(blockDim.x);
    thread = kWarps == 1 ? index % kWarp : index;
    threads = kWarps == 1 ? kWarp : size;
    token = kWarps == 1 ? index / kWarp : 0;
    tokens = kWarps == 1 ? size / kWarp : 1;
  }
  __device__ __forceinline__ bool in_first_warp() const { return kWarps == 1 || thread < kWarp; }
  __device__ __forceinline__ Column column(int i, int d) const {
    const int at = (i * threads + thread) * kPack;
    return {at, at < d};
  }

  /// Sums over the team, totals in every lane. Joins alternate between two areas of shared memory: a thread
  /// that writes to one has passed the barrier of the previous join, after which no thread still reads it.
  template <int kCount>
  __device__ __forceinline__ void sum_each(float (&value)[kCount]) {
    static_assert(kCount <= kTeamSums);
    warp_sum_each(value);
    if constexpr (kWarps > 1) {
      const int warps = threads / kWarp, warp = thread / kWarp;
      float* area = shared + (joins++ % 2) * warps * kTeamSums;
      if (thread % kWarp == 0) {
#pragma unroll
        for (int i = 0; i < kCount; ++i) area[warp * kTeamSums + i] = value[i];
      }
      __syncthreads();
#pragma unroll
      for (int i = 0; i < kCount; ++i) value[i] = 0;
      for (int w = 0; w < warps; ++w) {
#pragma unroll
        for (int i = 0; i < kCount; ++i) value[i] += area[w * kTeamSums + i];
      }
    }
  }
};

/// Launch parameters of a kernel over teams, for rows of d columns.
struct TeamLaunch {
  int warps;            // kWarps of the instantiation
  int threads;          // of a block
  size_t shared_bytes;  // for joins
  int tokens;           // of a block at once
};
inline TeamLaunch team_launch(int64_t d) {
  const int warps = static_cast<int>(div_ceil(d, int64_t{kWarp * kTeamPacks * kPack}));
  DR_CHECK_MSG(warps <= kLargeTeam, "routing: rows of at most 32768 columns");
  if (warps == 1) return {1, kLoneTeams * kWarp, 0, kLoneTeams};
  const size_t shared_bytes = 2 * static_cast<size_t>(warps) * kTeamSums * sizeof(float);
  return {warps <= kMediumTeam ? kMediumTeam : kLargeTeam, warps * kWarp, shared_bytes, 1};
}
constexpr int team_threads(int warps) { return (warps == 1 ? kLoneTeams : warps) * kWarp; }
/// Blocks that a multiprocessor should hold at least: the loads of 12 warps hide the latency of memory.
template <typename T>
constexpr int team_blocks(int warps) {
  return warps == 1 && sizeof(T) == 2 ? 3 : 1;
}

/// Factors w of a site's RMSNorm, from its weights; and their inverses, which the first token's team keeps for the
/// backward pass. nullptr: not kept.
__device__ __forceinline__ Pack norm_factors(const float* norm_weight, float* inverse_norm, int at,
                                             int64_t token) {
  Pack w = load_pack(norm_weight + at);
#pragma unroll
  for (float& x : w.x) x += copysignf(ops::kNormWeightStep, x);
  if (inverse_norm && token == 0) {
    Pack inverse;
#pragma unroll
    for (int e = 0; e < kPack; ++e) inverse.x[e] = __fdividef(1.0f, w.x[e]);
    store_pack(inverse_norm + at, inverse);
  }
  return w;
}

// ---- kernels over the sites of a group (routing_groups.h)

/// Of tensors of one device, which need not be one allocation.
template <typename T>
__device__ __forceinline__ int64_t elements_between(const T* from, const T* to) {
  return (reinterpret_cast<intptr_t>(to) - reinterpret_cast<intptr_t>(from)) /
         static_cast<int64_t>(sizeof(T));
}

/// Calls step.operator()<kCount>(first) for all sources: kStep (2 or 4) at a time, the last two by themselves.
template <int kStep, typename Step>
__device__ __forceinline__ void for_steps(int count, const Step& step) {
  int first = 0;
  for (; first + kStep / 2 < count; first += kStep) step.template operator()<kStep>(first);
  if (first < count) step.template operator()<kStep / 2>(first);
}

/// In a warp that does what is the same for all columns: a lane's site, and its sources part, part + kParts, ...
template <int kSites>
struct SiteLane {
  static constexpr int kParts = kWarp / kSites;
  int site, part;
  __device__ __forceinline__ explicit SiteLane(int lane) : site(lane % kSites), part(lane / kSites) {}

  /// Over all parts of a site.
  __device__ __forceinline__ static float sum_of_parts(float x) {
#pragma unroll
    for (int bit = kSites; bit < kWarp; bit *= 2) x += __shfl_xor_sync(kFullWarp, x, bit);
    return x;
  }
  __device__ __forceinline__ static float max_of_parts(float x) {
#pragma unroll
    for (int bit = kSites; bit < kWarp; bit *= 2) x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, bit));
    return x;
  }
  /// Over all sites, for a part.
  __device__ __forceinline__ static float sum_of_sites(float x) {
#pragma unroll
    for (int bit = 1; bit < kSites; bit *= 2) x += __shfl_xor_sync(kFullWarp, x, bit);
    return x;
  }
};

}  // namespace depthroute::cuda
