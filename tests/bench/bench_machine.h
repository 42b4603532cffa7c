// What is measured on which device, and what the machine itself does, measured in the same run as the ops and
// with the same library: the denominators of every percentage.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "kernels/device.h"
#include "kernels/tensor.h"

namespace depthroute::bench {

/// Device, stream and type of activations of a whole run.
struct Target {
  Device device = Device::cpu;
  DType act = DType::f32;
  Stream stream;
  bool cuda() const { return device == Device::cuda; }
};
/// `device`: auto, cpu or cuda; `precision`: bf16 or fp32. Throws ConfigError where there is no such device.
Target make_target(const std::string& device, const std::string& precision);

/// A tensor that owns its memory on the target's device, filled with values of order `scale` (f32, bf16) or
/// with integers below `scale` (i32).
struct OwnedTensor {
  std::shared_ptr<void> memory;
  Tensor view;
  operator const Tensor&() const { return view; }
};
OwnedTensor make_tensor(const Target& target, Shape shape, double scale = 1.0, DType dtype = DType::f32);
OwnedTensor make_indices(const Target& target, int64_t n, int64_t below);

/// Seconds of one call: the median of nine samples, each of as many calls as fill ten milliseconds and one
/// wait for the device.
double median_seconds(Stream stream, const std::function<void()>& call);

struct Machine {
  double gflops;     // GEMM in the activations' type, the best of two seconds (cpu) or the median (cuda)
  double gigabytes;  // per second, moved by a stream of reads and writes beyond every cache, alike
  std::string gemm, stream;  // what those were, for people: "sgemm 2048^3", "triad"
};
/// cpu: float32, 2048 cubed; a[i] = b[i] + s * c[i], 12 bytes per element.
/// cuda: activations' type, 8192 cubed; ops::copy of 1 GiB, 2 GiB moved.
Machine measure_machine(const Target& target);

/// Bytes in use on the GPU by everybody, 0 on the CPU.
int64_t device_bytes_in_use(const Target& target);

}  // namespace depthroute::bench
