// Loads the program's kernels before they are launched. CUDA loads a kernel when it is first used, which would take
// device memory in the middle of a step that has planned all of it. The other way, CUDA_MODULE_LOADING=EAGER, would
// also load every kernel of cuBLASLt and cuDNN, hundreds of megabytes of which a run uses a few.
//
// The list of kernels is what nvcc's code passes to CUDA's runtime before main(): programs are linked with
// --wrap=__cudaRegisterFunction (CMakeLists.txt), so that these calls come by here.
#include <cuda_runtime_api.h>

#include <vector>

#include "configs/base/error.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/libraries.h"

namespace depthroute::cuda {
namespace {

/// What the runtime knows a kernel by: the address of its host function.
std::vector<const void*>& kernels() {
  static auto& list = *new std::vector<const void*>;  // filled before other static objects may exist
  return list;
}

}  // namespace

int64_t num_kernels() { return static_cast<int64_t>(kernels().size()); }

void load_kernels() {
  for (const void* kernel : kernels()) {
    cudaFuncAttributes attributes;
    const cudaError_t error = cudaFuncGetAttributes(&attributes, kernel);
    if (error == cudaSuccess) continue;
    if (error != cudaErrorNoKernelImageForDevice && error != cudaErrorInvalidDeviceFunction)
      call_failed(error, "cudaFuncGetAttributes", __FILE__, __LINE__);
    int device = 0, major = 0, minor = 0;
    DR_CUDA_CHECK(cudaGetDevice(&device));
    DR_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    DR_CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
    throw SystemError(
        "this program has no kernels for a GPU of compute capability {}.{}: build it with that architecture in "
        "-DDEPTHROUTE_CUDA_ARCHITECTURES, or use device: cpu",
        major, minor);
  }
}

}  // namespace depthroute::cuda

// The linker gives these names their meaning.
// NOLINTBEGIN(bugprone-reserved-identifier)
extern "C" void __real___cudaRegisterFunction(void** module, const char* host_function, char* device_function,
                                              const char* name, int thread_limit, uint3* thread, uint3* block,
                                              dim3* block_size, dim3* grid_size, int* warp_size);

extern "C" void __wrap___cudaRegisterFunction(void** module, const char* host_function, char* device_function,
                                              const char* name, int thread_limit, uint3* thread, uint3* block,
                                              dim3* block_size, dim3* grid_size, int* warp_size) {
  depthroute::cuda::kernels().push_back(host_function);
  __real___cudaRegisterFunction(module, host_function, device_function, name, thread_limit, thread, block,
                                block_size, grid_size, warp_size);
}
// NOLINTEND(bugprone-reserved-identifier)
