// What the files of the emulated CUDA runtime share. cuda_runtime_api.h declares the runtime's functions.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <memory>

#include "tests/cuda_on_host/queues.h"

namespace depthroute::cuda::emulator {

/// Stores an error for cudaGetLastError(), and returns it.
cudaError_t note(cudaError_t error);

/// The environment variable CUDA_ON_HOST_DEVICES, or 1.
int device_count();
bool have_device();

/// Where memory is, as far as the runtime knows.
enum class Place { device, pinned, pageable };
Place place_of(const void* address);

/// Returns cudaErrorStreamCaptureUnsupported if a stream is capturing in a mode that forbids calls that
/// synchronize or allocate, and invalidates that capture; otherwise cudaSuccess.
cudaError_t refuse_during_capture();

/// Gives `work` to `stream`, or appends it to the graph that the stream is capturing into. Returns why neither
/// was possible. `may_block`: see Work.
cudaError_t run_or_record(cudaStream_t stream, std::function<void()> work, bool may_block = false);
/// The same, and waits for it; in a capture it only records.
cudaError_t run_and_wait(cudaStream_t stream, std::function<void()> work);

/// The waits of streams for events so far, those in captures not counted.
int64_t waits_so_far();
/// Plants a fault: the wait with this number, counted from 0, is forgotten. -1: none.
void forget_wait(int64_t number);

/// Called after each kernel has run, unless null.
extern void (*after_launch)();

}  // namespace depthroute::cuda::emulator
