// What the depth routing kernels share.
//
// Forward and the first part of backward give each token to a "team" of warps whose lanes hold up to kPacks
// packs of a row each. Up to D = 1024 a team is one warp, and four of them make a block that never waits at a
// barrier. Beyond, a team is the block, and sums over a row are joined through shared memory.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "configs/model_config.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/ops/ops.h"

namespace depthroute::cuda {

inline constexpr int kTeamPacks = 4;   // packs of a row per lane
inline constexpr int kTeamSums = 8;    // most sums a team takes at once
inline constexpr int kLoneTeams = 4;   // teams of one warp in a block
inline constexpr int kMediumTeam = 8;  // warps up to which a team's threads may have 255 registers
inline constexpr int kLargeTeam = 32;  // warps of the largest team: rows of up to 32768 columns

/// Columns [at, at + 8) of the pack that is a lane's i-th; `inside` the row or not.
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

  /// Totals over the team, in every lane. Joins take turns with two areas: whoever writes to one has passed
  /// the barrier of the join before, after which nobody reads it any more.
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

/// How a kernel over teams is started for rows of d columns.
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
/// Blocks of teams a processor should hold at least: 12 warps' loads cover the memory's latency.
template <typename T>
constexpr int team_blocks(int warps) {
  return warps == 1 && sizeof(T) == 2 ? 3 : 1;
}

// Sums over tokens as in reduce.cuh, but in chunks that suit what these kernels hold in registers: three
// blocks (first part) or two (second part) at a time on each of the 132 processors of a large Hopper GPU.
inline constexpr int64_t kRoutingChunks = 528;
constexpr int64_t routing_chunks(int64_t n) {
  return std::clamp<int64_t>(div_ceil(n, kReductionMinTokens), 1, kRoutingChunks);
}

/// What a site's arguments say about source j.
inline float source_offset(const ops::RoutingSite& site, size_t j) {
  return site.offset.empty() ? 0.0f : site.offset[j];
}
inline float source_scale(const ops::RoutingSite& site, size_t j) {
  return site.scale.empty() ? 1.0f : site.scale[j];
}
inline bool is_dropped(const ops::RoutingSite& site, size_t j) {
  return !site.offset.empty() && site.offset[j] < 0 && std::isinf(site.offset[j]);
}

}  // namespace depthroute::cuda
