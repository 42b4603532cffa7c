// NCCL or not: the same answer on all processes.
#include <fmt/format.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "configs/base/error.h"
#include "kernels/collectives/backends.h"
#include "kernels/collectives/nccl_library.h"
#include "kernels/cuda/device.h"

namespace depthroute {

namespace {

/// Returns "+<machine> <GPU>", or "-" and why NCCL cannot be used here.
std::string situation() {
  if (!nccl::library().unavailable.empty()) return "-" + nccl::library().unavailable;
  char host[256] = "";
  (void)gethostname(host, sizeof(host) - 1);
  return fmt::format("+{} GPU {}", host, cuda::bus_id());
}

/// Returns why NCCL cannot be used, or "".
std::string obstacle(const std::vector<std::string>& situations) {
  for (size_t r = 0; r < situations.size(); ++r) {
    if (situations[r][0] == '-') return fmt::format("rank {}: {}", r, situations[r].substr(1));
    for (size_t other = 0; other < r; ++other)
      if (situations[r] == situations[other])
        return fmt::format("NCCL needs a GPU per rank, and ranks {} and {} share {}", other, r,
                           situations[r].substr(1));
  }
  return "";
}

}  // namespace

bool use_nccl(World& world, const CollectivesOptions& options) {
  if (options.backend == CollectiveBackend::mpi) return false;
  const std::vector<std::string> situations = world.gather(situation());
  const std::string against = world.broadcast(obstacle(situations));
  if (against.empty()) return true;
  if (options.backend != CollectiveBackend::nccl) return false;
  throw ConfigError("distributed.backend: nccl cannot be used: {}; use distributed.backend: mpi", against);
}

}  // namespace depthroute
