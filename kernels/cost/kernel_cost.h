// What one kernel costs, counted from the arguments of its op.
#pragma once

#include <compare>
#include <cstdint>
#include <string_view>
#include <vector>

namespace depthroute::cost {

/// Which of a card's rates a kernel's floating-point operations run at. Element-wise arithmetic is not
/// counted: memory is slower.
enum class Rate : uint8_t { none, product_bf16, product_f32, attention_forward, attention_backward };

struct KernelCost {
  std::string_view name;  // a literal
  int64_t launches = 1;
  Rate rate = Rate::none;
  double flops = 0;  // at that rate
  /// Distinct bytes of device memory that a launch reads before it writes them, and that it writes.
  int64_t read = 0, written = 0;
  /// Bytes read once more, from memory: too much is read in between for the L2 cache to keep them.
  int64_t read_again = 0;
  /// Instructions of warps, of kernels that may be bound by them; 0: never bound by them.
  double instructions = 0;
  /// Whether it is a library's or the runtime's: nothing of ours executes it.
  bool library = false;
  /// Given to a second stream (kernels/side_stream.h); on the first stream, given after a wait for the second.
  bool beside = false, waits = false;

  int64_t bytes() const { return read + written + read_again; }
  auto operator<=>(const KernelCost&) const = default;
};

using Log = std::vector<KernelCost>;

}  // namespace depthroute::cost
