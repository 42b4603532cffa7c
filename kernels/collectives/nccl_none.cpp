// Builds without NCCL's header: device memory goes through MPI.
#include "configs/base/check.h"
#include "configs/base/error.h"
#include "kernels/collectives/backends.h"

namespace depthroute {

bool use_nccl(World&, const CollectivesOptions& options) {
  if (options.backend != CollectiveBackend::nccl) return false;
  throw ConfigError(
      "distributed.backend: this program was built without NCCL; use distributed.backend: mpi, or install "
      "NCCL's development package, configure again and rebuild");
}

std::unique_ptr<Collectives> make_nccl_collectives(World&, const CollectivesOptions&) {
  DR_CHECK_MSG(false, "this build has no NCCL");
  return nullptr;
}

}  // namespace depthroute
