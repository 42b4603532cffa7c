// Host memory that a device copies from and to while the host goes on: page-locked for a GPU, ordinary memory
// on the CPU, where copies are over when the call returns.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/device.h"

namespace depthroute {

class StagingMemory {
 public:
  StagingMemory() = default;
  /// Not zeroed. SystemError if there is too little.
  StagingMemory(Device device, int64_t bytes);
  /// Waits for copies that still use it.
  ~StagingMemory() { release(); }
  StagingMemory(StagingMemory&& other) noexcept { swap(other); }
  StagingMemory& operator=(StagingMemory&& other) noexcept {
    swap(other);
    return *this;
  }

  std::byte* data() const { return block_; }
  int64_t bytes() const { return bytes_; }

 private:
  void swap(StagingMemory& other) noexcept;
  void release();

  Device device_ = Device::cpu;
  std::byte* block_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace depthroute
