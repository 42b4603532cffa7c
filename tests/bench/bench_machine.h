// What the machine itself does, measured in the same run as the ops and with the same library: the
// denominators of every percentage.
#pragma once

#include <memory>

#include "kernels/device.h"
#include "kernels/tensor.h"

namespace depthroute::bench {

/// A tensor that owns its memory, filled with values of order `scale` (f32) or with integers below `scale`
/// (i32).
struct OwnedTensor {
  std::shared_ptr<void> memory;
  Tensor view;
  operator const Tensor&() const { return view; }
};
OwnedTensor make_tensor(Shape shape, double scale = 1.0);
OwnedTensor make_indices(int64_t n, int64_t below);

struct Machine {
  double gflops;     // float32 GEMM, 2048 x 2048 x 2048, 2 * 2048^3 operations, best of two seconds
  double gigabytes;  // a[i] = b[i] + s * c[i] over arrays beyond every cache, 12 bytes per element, best of
                     // several
};
Machine measure_machine();

}  // namespace depthroute::bench
