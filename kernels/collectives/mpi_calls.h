// Shared by all files that call MPI: errors as exceptions, and waiting that neither burns a core nor lasts
// for ever. MPI's own blocking calls spin, which takes cores from ranks that compute, and wait for dead
// ranks.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <span>

#include "kernels/collectives/backoff.h"

namespace depthroute::mpi {

[[noreturn]] void call_failed(int error, const char* call, const char* file, int line);

/// Throws SystemError with the call, its line and MPI's own words if the call fails. The communicator must
/// return errors (MPI_ERRORS_RETURN).
#define DR_MPI_CHECK(call)                                                 \
  do {                                                                     \
    if (const int dr_error = (call); dr_error != MPI_SUCCESS)              \
      ::depthroute::mpi::call_failed(dr_error, #call, __FILE__, __LINE__); \
  } while (false)

/// MPI counts in int: larger messages go in pieces of this many bytes. Tests make it small.
inline int64_t max_message_bytes = int64_t{1} << 30;

/// Polls until all requests are complete. After a CollectiveTimeout they are lost, and so is the
/// communicator.
void complete(std::span<MPI_Request> requests, const BackoffOptions& options);
void complete(MPI_Request request, const BackoffOptions& options);

/// Returns a copy of `parent` that returns errors. Never freed: freeing is collective, and MPI_Finalize does
/// it.
MPI_Comm duplicate(MPI_Comm parent, double timeout);

}  // namespace depthroute::mpi
