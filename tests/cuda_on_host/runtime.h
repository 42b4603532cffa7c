// What the parts of the emulated CUDA runtime share. The functions themselves are declared by
// cuda_runtime_api.h.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>

namespace depthroute::cuda::emulator {

/// Remembers an error for cudaGetLastError(); -> the error.
cudaError_t note(cudaError_t error);

/// CUDA_ON_HOST_DEVICES in the environment, or 1.
int device_count();
bool have_device();

/// cudaErrorStreamCaptureUnsupported if a stream captures in a mode that forbids calls which synchronise or
/// allocate, which also spoils that capture; else cudaSuccess.
cudaError_t refuse_during_capture();

/// Runs `work` now, or appends it to the graph `stream` is capturing into. -> why neither was possible.
cudaError_t run_or_record(cudaStream_t stream, std::function<void()> work);

}  // namespace depthroute::cuda::emulator
