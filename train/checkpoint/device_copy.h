// Copies a device's memory to the host beside what the device computes: in chunks through two page-locked
// buffers on a stream of its own, so that one arrives while the other is moved to where it belongs.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/staging_memory.h"
#include "kernels/tensor.h"

namespace depthroute {

class DeviceCopy {
 public:
  struct Piece {
    Tensor from, to;  // on cuda and on the host, of the same size and dtype; contiguous
  };
  static constexpr int64_t kChunkBytes = int64_t{64} << 20;

  /// Takes both buffers. SystemError if they cannot be had. Cuda only.
  explicit DeviceCopy(int64_t chunk_bytes = kChunkBytes);

  /// Says what to copy: as it is after all that `stream` has been given so far. Nothing may change it until
  /// run() has returned.
  void begin(Stream stream, std::vector<Piece> pieces);
  /// Copies, or returns early once `stop`. On any one thread.
  void run(const std::atomic<bool>& stop);

 private:
  struct Chunk {
    const std::byte* from;
    std::byte* to;
    int64_t bytes;
  };
  void fetch(size_t index);  // into its buffer
  void deliver(size_t index);
  std::byte* buffer(size_t index) const {
    return staging_.data() + static_cast<int64_t>(index % 2) * chunk_bytes_;
  }

  int64_t chunk_bytes_;
  StagingMemory staging_;
  cuda::SeparateStream stream_;
  cuda::Event ready_;
  std::array<cuda::Event, 2> arrived_;  // per buffer
  std::vector<Chunk> chunks_;
};

}  // namespace depthroute
