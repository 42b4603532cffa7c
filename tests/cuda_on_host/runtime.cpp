// The CUDA runtime on host memory: devices, errors, memory. Streams and events are in runtime_streams.cpp,
// graphs in runtime_graphs.cpp. Linked instead of libcudart.
#include "tests/cuda_on_host/runtime.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace depthroute::cuda::emulator {
namespace {

constexpr size_t kAlignment = 256;  // what cudaMalloc promises
constexpr int kMultiprocessors = 4;
constexpr int kSharedPerBlock = 48 * 1024;
constexpr int kSharedPerBlockOptin = 227 * 1024;
constexpr int kSharedPerMultiprocessor = 228 * 1024;
constexpr int kThreadsPerMultiprocessor = 2048;

thread_local cudaError_t last_error = cudaSuccess;
thread_local int current_device = 0;  // all devices are alike and share the memory

struct Allocation {
  size_t bytes = 0;
  bool pinned_host = false;
};
std::mutex allocations_mutex;
size_t allocated_bytes = 0;
// Keyed by the complement of the address, so that LeakSanitizer
// does not see the table as a reference to the memory.
std::map<uintptr_t, Allocation>& allocations() {
  static auto* table = new std::map<uintptr_t, Allocation>;
  return *table;
}
uintptr_t key_of(const void* address) { return ~reinterpret_cast<uintptr_t>(address); }

/// What the devices have together: the environment variable CUDA_ON_HOST_MEMORY (bytes), or all of the machine's.
size_t physical_memory() {
  if (const char* bytes = std::getenv("CUDA_ON_HOST_MEMORY")) return std::strtoull(bytes, nullptr, 10);
  return static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

size_t free_memory() {
  const size_t all = physical_memory();
  return all - std::min(all, allocated_bytes);
}

cudaError_t allocate(void** address, size_t bytes, bool pinned_host) {
  if (address == nullptr) return note(cudaErrorInvalidValue);
  *address = nullptr;
  if (!have_device()) return note(cudaErrorNoDevice);
  if (const cudaError_t error = refuse_during_capture(); error != cudaSuccess) return error;
  if (bytes == 0) return cudaSuccess;

  const std::lock_guard lock(allocations_mutex);
  if (bytes > free_memory()) return note(cudaErrorMemoryAllocation);
  void* block = nullptr;
  // Exactly of the requested size, so that AddressSanitizer sees overruns.
  if (posix_memalign(&block, kAlignment, bytes) != 0) return note(cudaErrorMemoryAllocation);
  std::memset(block, 0xff, bytes);  // NaN, so that reads of unwritten memory show up
  allocations()[key_of(block)] = {bytes, pinned_host};
  if (!pinned_host) allocated_bytes += bytes;
  *address = block;
  return cudaSuccess;
}

// Waits for the device, as CUDA does.
cudaError_t release(void* address, bool pinned_host) {
  if (address == nullptr) return cudaSuccess;
  if (const cudaError_t error = refuse_during_capture(); error != cudaSuccess) return error;
  finish_all();
  const std::lock_guard lock(allocations_mutex);
  const auto found = allocations().find(key_of(address));
  if (found == allocations().end() || found->second.pinned_host != pinned_host) {
    return note(cudaErrorInvalidValue);
  }
  if (!pinned_host) allocated_bytes -= found->second.bytes;
  allocations().erase(found);
  std::free(address);
  return cudaSuccess;
}

struct ErrorText {
  const char* name;
  const char* text;
};

ErrorText describe(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return {"cudaSuccess", "no error"};
    case cudaErrorInvalidValue:
      return {"cudaErrorInvalidValue", "invalid argument"};
    case cudaErrorMemoryAllocation:
      return {"cudaErrorMemoryAllocation", "out of memory"};
    case cudaErrorInvalidConfiguration:
      return {"cudaErrorInvalidConfiguration", "invalid configuration argument"};
    case cudaErrorNoDevice:
      return {"cudaErrorNoDevice", "no CUDA-capable device is detected"};
    case cudaErrorInvalidDevice:
      return {"cudaErrorInvalidDevice", "invalid device ordinal"};
    case cudaErrorInvalidResourceHandle:
      return {"cudaErrorInvalidResourceHandle", "invalid resource handle"};
    case cudaErrorIllegalState:
      return {"cudaErrorIllegalState", "the operation cannot be performed in the present state"};
    case cudaErrorNotReady:
      return {"cudaErrorNotReady", "device not ready"};
    case cudaErrorStreamCaptureUnsupported:
      return {"cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"};
    case cudaErrorStreamCaptureInvalidated:
      return {"cudaErrorStreamCaptureInvalidated", "operation failed due to a previous error during capture"};
    case cudaErrorStreamCaptureMerge:
      return {"cudaErrorStreamCaptureMerge",
              "operation would result in a merge of separate capture sequences"};
    case cudaErrorStreamCaptureUnmatched:
      return {"cudaErrorStreamCaptureUnmatched", "capture was not ended in the same stream as it began"};
    case cudaErrorStreamCaptureImplicit:
      return {"cudaErrorStreamCaptureImplicit",
              "operation would make the legacy stream depend on a capturing blocking stream"};
    case cudaErrorStreamCaptureUnjoined:
      return {"cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"};
    case cudaErrorStreamCaptureIsolation:
      return {"cudaErrorStreamCaptureIsolation", "dependency created on uncaptured work in another stream"};
    case cudaErrorCapturedEvent:
      return {"cudaErrorCapturedEvent",
              "operation not permitted on an event last recorded in a capturing stream"};
    default:
      return {"cudaErrorUnknown", "unrecognized error code"};
  }
}

}  // namespace

cudaError_t note(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

int device_count() {
  const char* devices = std::getenv("CUDA_ON_HOST_DEVICES");
  return devices == nullptr ? 1 : std::atoi(devices);
}

bool have_device() { return device_count() > 0; }

Place place_of(const void* address) {
  const std::lock_guard lock(allocations_mutex);
  const auto found = allocations().lower_bound(key_of(address));  // the last block that begins at or before
  if (found == allocations().end()) return Place::pageable;
  if (found->first - key_of(address) >= found->second.bytes) return Place::pageable;
  return found->second.pinned_host ? Place::pinned : Place::device;
}

}  // namespace depthroute::cuda::emulator

using depthroute::cuda::emulator::allocate;
using depthroute::cuda::emulator::allocations_mutex;
using depthroute::cuda::emulator::current_device;
using depthroute::cuda::emulator::describe;
using depthroute::cuda::emulator::device_count;
using depthroute::cuda::emulator::free_memory;
using depthroute::cuda::emulator::have_device;
using depthroute::cuda::emulator::last_error;
using depthroute::cuda::emulator::note;
using depthroute::cuda::emulator::physical_memory;
using depthroute::cuda::emulator::Place;
using depthroute::cuda::emulator::place_of;
using depthroute::cuda::emulator::refuse_during_capture;
using depthroute::cuda::emulator::release;
using depthroute::cuda::emulator::run_and_wait;
using depthroute::cuda::emulator::run_or_record;

// ---- errors

const char* cudaGetErrorName(cudaError_t error) { return describe(error).name; }
const char* cudaGetErrorString(cudaError_t error) { return describe(error).text; }
cudaError_t cudaPeekAtLastError() { return last_error; }
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

// ---- device

cudaError_t cudaGetDeviceCount(int* count) {
  *count = device_count();
  return have_device() ? cudaSuccess : note(cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device) {
  if (!have_device()) return note(cudaErrorNoDevice);
  if (device < 0 || device >= device_count()) return note(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  if (!have_device()) return note(cudaErrorNoDevice);
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) {
  if (device < 0 || device >= device_count()) return note(cudaErrorInvalidDevice);
  if (std::snprintf(text, static_cast<size_t>(length), "0000:%02x:00.0", device) >= length)
    return note(cudaErrorInvalidValue);
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (!have_device()) return note(cudaErrorNoDevice);
  if (device < 0 || device >= device_count()) return note(cudaErrorInvalidDevice);
  using namespace depthroute::cuda::emulator;
  *properties = cudaDeviceProp{};
  std::strcpy(properties->name, "emulated");
  properties->totalGlobalMem = physical_memory();
  properties->sharedMemPerBlock = kSharedPerBlock;
  properties->sharedMemPerBlockOptin = kSharedPerBlockOptin;
  properties->sharedMemPerMultiprocessor = kSharedPerMultiprocessor;
  properties->regsPerBlock = 65536;
  properties->regsPerMultiprocessor = 65536;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->maxThreadsPerMultiProcessor = kThreadsPerMultiprocessor;
  properties->maxThreadsDim[0] = 1024;
  properties->maxThreadsDim[1] = 1024;
  properties->maxThreadsDim[2] = 64;
  properties->maxGridSize[0] = 0x7fffffff;
  properties->maxGridSize[1] = 65535;
  properties->maxGridSize[2] = 65535;
  properties->major = 9;
  properties->minor = 0;
  properties->multiProcessorCount = kMultiprocessors;
  properties->l2CacheSize = 50 * 1024 * 1024;
  properties->unifiedAddressing = 1;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp properties;
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, device); error != cudaSuccess)
    return error;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = properties.maxThreadsPerBlock;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(properties.sharedMemPerBlock);
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(properties.sharedMemPerBlockOptin);
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(properties.sharedMemPerMultiprocessor);
      return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = properties.maxThreadsPerMultiProcessor;
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      return cudaSuccess;
    case cudaDevAttrWarpSize:
      *value = properties.warpSize;
      return cudaSuccess;
    case cudaDevAttrL2CacheSize:
      *value = properties.l2CacheSize;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      return cudaSuccess;
    default:
      return note(cudaErrorInvalidValue);
  }
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = have_device() ? CUDART_VERSION : 0;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  if (function == nullptr || value < 0) return note(cudaErrorInvalidValue);
  if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize &&
      value > depthroute::cuda::emulator::kSharedPerBlockOptin) {
    return note(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

// ---- memory

cudaError_t cudaMalloc(void** address, size_t bytes) { return allocate(address, bytes, false); }
cudaError_t cudaFree(void* address) { return release(address, false); }
cudaError_t cudaMallocHost(void** address, size_t bytes) { return allocate(address, bytes, true); }
cudaError_t cudaHostAlloc(void** address, size_t bytes, unsigned) { return allocate(address, bytes, true); }
cudaError_t cudaFreeHost(void* address) { return release(address, true); }

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  if (!have_device()) return note(cudaErrorNoDevice);
  const std::lock_guard lock(allocations_mutex);
  *total = physical_memory();
  *free = free_memory();
  return cudaSuccess;
}

// Pageable host memory is read when the call is made, and has been written when it returns; page-locked memory
// is read and written when the stream gets there. A capture keeps the addresses of both.
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  if (to == nullptr || from == nullptr) return note(cudaErrorInvalidValue);
  const auto copy = [to, from, bytes] { std::memmove(to, from, bytes); };
  if (place_of(to) == Place::pageable) return run_and_wait(stream, copy);
  cudaStreamCaptureStatus status{};
  if (const cudaError_t error = cudaStreamIsCapturing(stream, &status); error != cudaSuccess) return error;
  if (place_of(from) != Place::pageable || status != cudaStreamCaptureStatusNone)
    return run_or_record(stream, copy);
  const auto* data = static_cast<const unsigned char*>(from);
  return run_or_record(stream, [to, staged = std::vector(data, data + bytes)] {
    std::memcpy(to, staged.data(), staged.size());
  });
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  if (to == nullptr) return note(cudaErrorInvalidValue);
  return run_or_record(stream, [to, value, bytes] { std::memset(to, value, bytes); });
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  if (const cudaError_t error = refuse_during_capture(); error != cudaSuccess) return error;
  if (const cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, nullptr); error != cudaSuccess)
    return error;
  return cudaStreamSynchronize(nullptr);
}

// Device memory is set in order with the legacy stream; the call does not wait for it.
cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  if (const cudaError_t error = refuse_during_capture(); error != cudaSuccess) return error;
  return cudaMemsetAsync(to, value, bytes, nullptr);
}
