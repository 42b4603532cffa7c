#include "train/checkpoint/device_copy.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "configs/base/check.h"
#include "kernels/ops/ops.h"

namespace depthroute {

namespace {
constexpr std::chrono::microseconds kNap{50};  // a chunk takes a few milliseconds

Tensor bytes(const std::byte* at, int64_t count, Device device) {
  return {const_cast<std::byte*>(at), {count / size_of(DType::f32)}, DType::f32, device};
}
}  // namespace

DeviceCopy::DeviceCopy(int64_t chunk_bytes)
    : chunk_bytes_(chunk_bytes), staging_(Device::cuda, 2 * chunk_bytes) {
  DR_CHECK(chunk_bytes > 0 && chunk_bytes % size_of(DType::f32) == 0);
}

void DeviceCopy::begin(Stream stream, std::vector<Piece> pieces) {
  chunks_.clear();
  for (const Piece& piece : pieces) {
    DR_CHECK(piece.from.dtype == DType::f32 && piece.from.device == Device::cuda);
    DR_CHECK(piece.from.bytes() == piece.to.bytes());
    for (int64_t at = 0; at < piece.from.bytes(); at += chunk_bytes_)
      chunks_.push_back({static_cast<const std::byte*>(piece.from.pointer) + at,
                         static_cast<std::byte*>(piece.to.pointer) + at,
                         std::min(chunk_bytes_, piece.from.bytes() - at)});
  }
  ready_.record(stream);
}

void DeviceCopy::fetch(size_t index) {
  const Chunk& chunk = chunks_[index];
  ops::copy(stream_.get(), bytes(chunk.from, chunk.bytes, Device::cuda),
            bytes(buffer(index), chunk.bytes, Device::cpu));
  arrived_[index % 2].record(stream_.get());
}

void DeviceCopy::deliver(size_t index) {
  while (!arrived_[index % 2].passed()) std::this_thread::sleep_for(kNap);
  std::memcpy(chunks_[index].to, buffer(index), static_cast<size_t>(chunks_[index].bytes));
}

void DeviceCopy::run(const std::atomic<bool>& stop) {
  cuda::enter_thread();
  ready_.hold(stream_.get());
  // A buffer is filled again only after deliver() has emptied it.
  for (size_t i = 0; i < chunks_.size() && !stop; ++i) {
    if (i == 0) fetch(i);
    if (i + 1 < chunks_.size()) fetch(i + 1);
    deliver(i);
  }
}

}  // namespace depthroute
