#include "kernels/arena.h"

#include <fmt/format.h>

#include <numeric>

#include "configs/base/error.h"
#include "kernels/device.h"

namespace depthroute {

namespace {
constexpr int64_t kAlignment = 256;
}

const char* to_string(Purpose purpose) {
  static constexpr const char* kNames[kNumPurposes] = {"parameters",      "gradients",   "optimizer",
                                                       "states",          "activations", "routing",
                                                       "state gradients", "workspace",   "batch"};
  return kNames[static_cast<int>(purpose)];
}

Arena::~Arena() {
  if (!block_) return;
  if (only_addresses_)
    release_addresses(block_, size_);
  else
    device_free(device_, block_, size_);
}

void Arena::plan(Purpose purpose, Tensor* slot, Shape shape, DType dtype) {
  DR_CHECK_MSG(block_ == nullptr, "Arena::plan after allocate");
  *slot = Tensor{nullptr, shape, dtype, device_};
  const int64_t bytes = checked_round_up(slot->bytes(), kAlignment);
  const int64_t size = checked_sum(size_, bytes);
  requests_.push_back({slot, size_});
  bytes_[static_cast<int>(purpose)] += bytes;
  size_ = size;
}

void Arena::allocate() {
  DR_CHECK_MSG(block_ == nullptr, "Arena::allocate twice");
  if (size_ == 0) return;
  block_ = device_allocate(device_, size_);
  require_headroom(device_);
  place();
}

void Arena::reserve_addresses() {
  DR_CHECK_MSG(block_ == nullptr, "Arena::reserve_addresses after allocate");
  if (size_ == 0) return;
  block_ = depthroute::reserve_addresses(size_);
  only_addresses_ = true;
  place();
}

void Arena::place() {
  for (const Request& request : requests_)
    request.slot->pointer = static_cast<std::byte*>(block_) + request.offset;
}

std::vector<Tensor> Arena::tensors() const {
  std::vector<Tensor> tensors;
  for (const Request& request : requests_) tensors.push_back(*request.slot);
  return tensors;
}

int64_t Arena::total_bytes() const { return std::accumulate(bytes_.begin(), bytes_.end(), int64_t{0}); }

}  // namespace depthroute
