// How kernels over a group of sites cut it into launches. Includes no CUDA header: kernels/cost asks, too.
#pragma once

#include <cstdint>
#include <span>

#include "configs/base/check.h"
#include "kernels/cuda/work_split.h"
#include "kernels/op_types.h"

namespace depthroute::cuda {

inline constexpr int kMaxGroupSites = 8;  // of a launch that reads shared sources once for all its sites

/// Kernels over the sites of a group give a token to a block, and kQuads quads of every row to a thread.
/// Registers hold kSites * quads = 8 quads of the sites, so long rows take fewer sites to a launch.
struct GroupShape {
  int sites, quads, threads;
};
inline GroupShape group_shape(int64_t d) {
  constexpr int64_t kQuadColumns = 4, kWarpThreads = 32;
  const GroupShape shape = d <= 2048   ? GroupShape{8, 1, 0}
                           : d <= 4096 ? GroupShape{4, 2, 0}
                                       : GroupShape{1, 8, 0};
  const int64_t threads = round_up(div_ceil(d, kQuadColumns * shape.quads), kWarpThreads);
  return {shape.sites, shape.quads, static_cast<int>(threads)};
}

/// Floats of partial sums: du and dbias of a launch's sites, per chunk.
inline int64_t group_workspace_floats(int64_t d) { return kRoutingChunks * (d + 1) * group_shape(d).sites; }

inline bool is_scaled(const RoutingSite& site) { return !site.scale.empty(); }
/// Whether a site has offsets or scales: its own, so it takes no part in a launch of plain sites.
inline bool is_altered(const RoutingSite& site) { return !site.offset.empty() || is_scaled(site); }

/// How many of the first sites share a launch. Those for which `alone` holds have one to themselves.
inline size_t sites_of_launch(std::span<const RoutingSite> sites, int64_t d,
                              bool (*alone)(const RoutingSite&)) {
  const auto most = static_cast<size_t>(group_shape(d).sites);
  size_t count = 1;
  if (!alone(sites[0]))
    while (count < most && count < sites.size() && !alone(sites[count])) ++count;
  return count;
}

}  // namespace depthroute::cuda
