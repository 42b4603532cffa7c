// GPUs as kernels/device.cpp sees them; device_absent.cpp has the same functions for builds without CUDA. No
// CUDA header is needed to include this.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "kernels/device.h"

namespace depthroute::cuda {

/// Whether this program was built with CUDA.
bool built();
/// Why no GPU can be used here, or "". Asks the driver once.
const std::string& unavailable();

/// Name, memory, compute capability, driver and library versions, attention in use; says so where there is no
/// GPU to describe.
std::string describe();
/// What CUDA's context and the libraries' own buffers take beside arenas. An estimate.
int64_t process_bytes();

Stream make_stream();
void synchronize(Stream stream);
/// Zero-filled, 256-byte aligned.
void* allocate(int64_t bytes);
void deallocate(void* block);

/// Records what `body` puts on the stream instead of doing it; then replay() does it, any number of times.
/// nullptr in, or a recording to be replaced.
void* record(Stream stream, const std::function<void()>& body);
void replay(Stream stream, void* recording);
void discard(void* recording);

}  // namespace depthroute::cuda
