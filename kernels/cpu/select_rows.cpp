// The rows of one tensor that a mask names, copied into another.
#include <cstring>

#include "kernels/cpu/elementwise.h"
#include "kernels/op_table.h"

namespace depthroute::cpu {

void select_rows(Stream, const Tensor& mask, const Tensor& from, const Tensor& to) {
  const int64_t n = to.rows(), columns = to.cols();
  if (from.pointer == to.pointer) return;
  const int32_t* const selected = mask.data<int32_t>();
  const float* const source = from.data<float>();
  float* const target = to.data<float>();
#pragma omp parallel for schedule(static) if (to.numel() > kMinParallelElements)
  for (int64_t row = 0; row < n; ++row)
    if (selected[row] != 0)
      std::memcpy(target + row * columns, source + row * columns,
                  static_cast<size_t>(columns) * sizeof(float));
}

}  // namespace depthroute::cpu
