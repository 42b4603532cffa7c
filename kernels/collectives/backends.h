// The implementations of Collectives. Private to kernels/collectives: others ask a World.
#pragma once

#include <memory>

#include "kernels/collectives/collectives.h"
#include "kernels/collectives/world.h"

namespace depthroute {

/// For one rank: every call is over when it returns.
std::unique_ptr<Collectives> make_single_collectives();

/// Returns whether cuda tensors go through NCCL, by options.backend and by what is installed; the same on all
/// ranks. Collective. ConfigError if NCCL was asked for and is unavailable.
bool use_nccl(World& world, const CollectivesOptions& options);
/// After use_nccl() said so. Collective.
std::unique_ptr<Collectives> make_nccl_collectives(World& world, const CollectivesOptions& options);

}  // namespace depthroute
