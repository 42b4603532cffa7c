// What every file that calls MPI shares: errors as exceptions, and waiting that neither burns a core nor
// lasts for ever. MPI's own blocking calls spin, which takes the cores from those who compute, and wait for
// the dead.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <span>

#include "kernels/collectives/backoff.h"

namespace depthroute::mpi {

[[noreturn]] void call_failed(int error, const char* call, const char* file, int line);

/// A failure becomes a SystemError that names the call, the place and MPI's own words. The communicator must
/// return errors (MPI_ERRORS_RETURN).
#define DR_MPI_CHECK(call)                                                 \
  do {                                                                     \
    if (const int dr_error = (call); dr_error != MPI_SUCCESS)              \
      ::depthroute::mpi::call_failed(dr_error, #call, __FILE__, __LINE__); \
  } while (false)

/// Counts of MPI are int; what is larger goes in parts of this many bytes. (Tests make it small.)
inline int64_t max_message_bytes = int64_t{1} << 30;

/// Polls until all requests are complete. CollectiveTimeout otherwise; they are then lost, and the
/// communicator with them.
void complete(std::span<MPI_Request> requests, const BackoffOptions& options);
void complete(MPI_Request request, const BackoffOptions& options);

/// A communicator of our own like `parent`, which returns errors. Never freed: that is collective, and
/// MPI_Finalize does it.
MPI_Comm duplicate(MPI_Comm parent, double timeout);

}  // namespace depthroute::mpi
