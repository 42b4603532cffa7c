// Memory is planned once, then allocated once: nothing is allocated during a step. Components first plan the
// tensors they need, each under the purpose it is reported as; allocate() then takes one block and fills in
// the pointers. A dry run plans and never allocates.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/tensor.h"

namespace depthroute {

enum class Purpose : uint8_t {
  parameters,
  gradients,
  optimizer,
  states,           // depth states S_0 ... S_2L
  activations,      // everything else the forward pass keeps for the backward pass
  routing,          // weights, inverse RMS and dot products of every site
  state_gradients,  // gradients of the states, one slot per state alive at a time
  workspace,        // scratch that ops share
  batch,            // tokens, targets and per-token losses
};
inline constexpr int kNumPurposes = 9;
const char* to_string(Purpose purpose);

class Arena {
 public:
  explicit Arena(Device device) : device_(device) {}
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena();

  /// Plans a tensor. `*slot` gets shape, dtype and device now and its pointer in allocate(), so it must not
  /// move until then. Each tensor starts on a 256-byte boundary. Throws ConfigError if the total number of
  /// bytes overflows.
  void plan(Purpose purpose, Tensor* slot, Shape shape, DType dtype = DType::f32);

  /// Allocates the memory, zero-filled, and fills in the pointers. Call once, after reserve_device(). Throws
  /// SystemError if there is too little memory.
  void allocate();
  /// Fills in addresses that nothing may read or write, for counting work (kernels/cost/scope.h). Instead of
  /// allocate().
  void reserve_addresses();

  Device device() const { return device_; }
  int64_t bytes(Purpose purpose) const { return bytes_[static_cast<int>(purpose)]; }
  int64_t total_bytes() const;
  /// All tensors, in the order they were planned.
  std::vector<Tensor> tensors() const;

 private:
  struct Request {
    Tensor* slot;
    int64_t offset;
  };
  Device device_;
  std::vector<Request> requests_;
  std::array<int64_t, kNumPurposes> bytes_{};
  int64_t size_ = 0;
  void* block_ = nullptr;
  bool only_addresses_ = false;

  void place();
};

}  // namespace depthroute
