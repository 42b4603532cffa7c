// Launches a kernel: launch(kernel, grid, block, shared_bytes, stream, args...). Only .cu files include this.
// The tests' emulator (tests/cuda_on_host), which executes the same files on the CPU, has its own launch()
// and DR_DYNAMIC_SHARED and is included before everything else.
#pragma once

#ifndef DEPTHROUTE_CUDA_ON_HOST

#include <cuda_runtime.h>

#include "kernels/cuda/check.h"

/// Declares `T* name`, the block's dynamic shared memory, 16-byte aligned; at most once per kernel.
#define DR_DYNAMIC_SHARED(T, name)                                         \
  extern __shared__ __align__(16) unsigned char dr_dynamic_shared_bytes[]; \
  T* name = reinterpret_cast<T*>(dr_dynamic_shared_bytes)

namespace depthroute::cuda {

/// A kernel that needs more must opt in.
inline constexpr size_t kDefaultSharedBytes = 48 << 10;

template <typename... Params, typename... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            Args... args) {
  if (shared_bytes > kDefaultSharedBytes)
    DR_CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                       cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       static_cast<int>(shared_bytes)));
  kernel<<<grid, block, shared_bytes, stream>>>(static_cast<Params>(args)...);
  DR_CUDA_CHECK(cudaGetLastError());
}

}  // namespace depthroute::cuda

#endif
