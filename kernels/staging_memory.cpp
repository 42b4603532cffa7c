#include "kernels/staging_memory.h"

#include <utility>

#include "kernels/cuda/device.h"

namespace depthroute {

StagingMemory::StagingMemory(Device device, int64_t bytes) : device_(device), bytes_(bytes) {
  if (device == Device::cuda)
    block_ = cuda::allocate_pinned(bytes).release();
  else
    block_ = static_cast<std::byte*>(device_allocate(Device::cpu, bytes));
}

void StagingMemory::release() {
  if (block_ == nullptr) return;
  if (device_ == Device::cuda)
    cuda::PinnedDeleter()(block_);
  else
    device_free(Device::cpu, block_, bytes_);
}

void StagingMemory::swap(StagingMemory& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(block_, other.block_);
  std::swap(bytes_, other.bytes_);
}

}  // namespace depthroute
