// Memory is planned once, then taken once: nothing is allocated during a step. Components first say what they
// need (plan), with the purpose it is reported under; allocate() then takes one block per device and fills in
// the tensors. A dry run plans and never allocates.
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
  activations,      // what else the backward pass needs of the forward pass
  routing,          // weights, inverse RMS and dot products of every site
  state_gradients,  // gradients of the states, one slot per state alive at a time
  workspace,        // scratch of single operations, shared
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

  /// Asks for a tensor. `*slot` gets shape, dtype and device now and its pointer in allocate(); it must stay
  /// at its address until then. Each tensor starts on a 256-byte boundary. ConfigError if all of them
  /// together are more bytes than can be counted.
  void plan(Purpose purpose, Tensor* slot, Shape shape, DType dtype = DType::f32);

  /// Takes the memory (zero-filled) and hands out the pointers. Once. Throws SystemError if there is too
  /// little.
  void allocate();

  Device device() const { return device_; }
  int64_t bytes(Purpose purpose) const { return bytes_[static_cast<int>(purpose)]; }
  int64_t total_bytes() const;
  /// What was asked for, in order.
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
};

}  // namespace depthroute
