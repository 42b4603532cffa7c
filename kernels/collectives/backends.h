// Which implementations of Collectives there are. Private to kernels/collectives: others ask a World.
#pragma once

#include <memory>

#include "kernels/collectives/collectives.h"
#include "kernels/collectives/world.h"

namespace depthroute {

/// One process: nothing to do.
std::unique_ptr<Collectives> make_single_collectives();

/// Whether cuda tensors go through NCCL, by options.backend and by what is there; the same answer on all
/// processes. Collective. ConfigError where NCCL was asked for and is not to be had.
bool use_nccl(World& world, const CollectivesOptions& options);
/// After use_nccl() said so. Collective.
std::unique_ptr<Collectives> make_nccl_collectives(World& world, const CollectivesOptions& options);

}  // namespace depthroute
