#include "kernels/collectives/mpi_calls.h"

#include <string>

#include "configs/base/check.h"
#include "configs/base/error.h"

namespace depthroute::mpi {

void call_failed(int error, const char* call, const char* file, int line) {
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  if (MPI_Error_string(error, text, &length) != MPI_SUCCESS) length = 0;
  throw SystemError("MPI: {} from {} at {}:{}", std::string(text, static_cast<size_t>(length)), call, file,
                    line);
}

void complete(std::span<MPI_Request> requests, const BackoffOptions& options) {
  Backoff backoff(options);
  for (;;) {
    int done = 0;
    DR_MPI_CHECK(MPI_Testall(narrow<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE));
    if (done) return;
    backoff.rest();
  }
}

void complete(MPI_Request request, const BackoffOptions& options) {
  complete(std::span(&request, 1), options);
}

MPI_Comm duplicate(MPI_Comm parent, double timeout) {
  MPI_Comm result = MPI_COMM_NULL;
  MPI_Request request = MPI_REQUEST_NULL;
  DR_MPI_CHECK(MPI_Comm_idup(parent, &result, &request));
  complete(request, {"setting up", timeout});
  DR_MPI_CHECK(MPI_Comm_set_errhandler(result, MPI_ERRORS_RETURN));
  return result;
}

}  // namespace depthroute::mpi
