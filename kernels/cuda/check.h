// Every call of the CUDA runtime goes through DR_CUDA_CHECK: a failure becomes a SystemError with the call,
// its place and the runtime's own words. Also the CUDA stream behind a Stream.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/device.h"
#include "kernels/tensor.h"

namespace depthroute::cuda {

[[noreturn]] void call_failed(cudaError_t error, const char* call, const char* file, int line);

#define DR_CUDA_CHECK(call)                                                 \
  do {                                                                      \
    if (const cudaError_t dr_error = (call); dr_error != cudaSuccess)       \
      ::depthroute::cuda::call_failed(dr_error, #call, __FILE__, __LINE__); \
  } while (false)

inline cudaStream_t handle(Stream stream) { return static_cast<cudaStream_t>(stream.handle); }

}  // namespace depthroute::cuda
