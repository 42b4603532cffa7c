// The device of a run, and the machine's own speed, measured in the same run and with the same library as the
// ops: the denominators of every percentage.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "kernels/device.h"
#include "kernels/tensor.h"

namespace depthroute::bench {

/// Device, stream and dtype of activations of a whole run.
struct Target {
  Device device = Device::cpu;
  DType act = DType::f32;
  Stream stream;
  bool cuda() const { return device == Device::cuda; }
};
/// `device`: auto, cpu or cuda; `precision`: bf16 or fp32. Throws ConfigError if the device is unavailable.
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

/// Returns the seconds of one call: the median of nine samples, each of as many calls as fill ten
/// milliseconds, plus one wait for the device.
double median_seconds(Stream stream, const std::function<void()>& call);

struct Machine {
  double gflops;     // of GEMM in the activations' dtype: the best of two seconds (cpu) or the median (cuda)
  double gigabytes;  // per second, moved by reads and writes too large for any cache; measured likewise
  std::string gemm, stream;  // what was measured, e.g. "sgemm 2048^3", "triad"
};
/// cpu: float32, 2048 cubed; a[i] = b[i] + s * c[i], 12 bytes per element.
/// cuda: the activations' dtype, 8192 cubed; ops::copy of 1 GiB, which moves 2 GiB.
/// `tiny`: sizes that an emulated device gets through in a second, to try programs; their figures mean nothing.
Machine measure_machine(const Target& target, bool tiny = false);

/// Returns the bytes in use on the GPU, by all processes; 0 on the CPU.
int64_t device_bytes_in_use(const Target& target);

}  // namespace depthroute::bench
