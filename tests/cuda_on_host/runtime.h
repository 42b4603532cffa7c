// What the files of the emulated CUDA runtime share. cuda_runtime_api.h declares the runtime's functions.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>

namespace depthroute::cuda::emulator {

/// Stores an error for cudaGetLastError(), and returns it.
cudaError_t note(cudaError_t error);

/// The environment variable CUDA_ON_HOST_DEVICES, or 1.
int device_count();
bool have_device();

/// Returns cudaErrorStreamCaptureUnsupported if a stream is capturing in a mode that forbids calls that
/// synchronize or allocate, and invalidates that capture; otherwise cudaSuccess.
cudaError_t refuse_during_capture();

/// Runs `work` now, or appends it to the graph that `stream`
/// is capturing into. Returns why neither was possible.
cudaError_t run_or_record(cudaStream_t stream, std::function<void()> work);

/// Called after each kernel has run, unless null.
extern void (*after_launch)();

}  // namespace depthroute::cuda::emulator
