// Collectives over MPI, of host tensors, or of cuda tensors staged through the host.
#pragma once

#include <mpi.h>

#include <memory>

#include "kernels/collectives/collectives.h"

namespace depthroute {

/// `comm` is for these collectives alone, and returns errors.
std::unique_ptr<Collectives> make_mpi_collectives(MPI_Comm comm, Device device,
                                                  const CollectivesOptions& options);

}  // namespace depthroute
