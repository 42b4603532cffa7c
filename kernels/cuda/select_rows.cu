// The rows of one tensor that a mask names, copied into another, in the widest units that rows and addresses
// allow: rows of weights are only as long as a site has sources.
#include <algorithm>
#include <cstdint>

#include "configs/base/check.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/launch.h"
#include "kernels/op_table.h"

namespace depthroute::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 4096;

template <typename Unit>
__global__ void __launch_bounds__(kThreads)
    select_rows_kernel(int64_t rows, int64_t units, const int32_t* mask /*[rows]*/,
                       const Unit* from /*[rows, units]*/, Unit* to /*[rows, units]*/) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < rows * units; i += stride)
    if (mask[i / units] != 0) to[i] = from[i];
}

template <typename Unit>
bool fits(const Tensor& from, const Tensor& to, int64_t row_bytes) {
  constexpr uintptr_t kSize = sizeof(Unit);
  return static_cast<uintptr_t>(row_bytes) % kSize == 0 &&
         reinterpret_cast<uintptr_t>(from.pointer) % kSize == 0 &&
         reinterpret_cast<uintptr_t>(to.pointer) % kSize == 0;
}

template <typename Unit>
void select_units(Stream stream, const Tensor& mask, const Tensor& from, const Tensor& to,
                  int64_t row_bytes) {
  const int64_t units = row_bytes / static_cast<int64_t>(sizeof(Unit));
  const int64_t blocks = std::min(div_ceil(to.rows() * units, int64_t{kThreads}), kMaxBlocks);
  launch(select_rows_kernel<Unit>, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, handle(stream),
         to.rows(), units, mask.data<int32_t>(), static_cast<const Unit*>(from.pointer),
         static_cast<Unit*>(to.pointer));
}

}  // namespace

void select_rows(Stream stream, const Tensor& mask, const Tensor& from, const Tensor& to) {
  if (to.numel() == 0 || from.pointer == to.pointer) return;
  const int64_t row_bytes = to.cols() * size_of(to.dtype);
  if (fits<uint4>(from, to, row_bytes)) return select_units<uint4>(stream, mask, from, to, row_bytes);
  if (fits<uint32_t>(from, to, row_bytes)) return select_units<uint32_t>(stream, mask, from, to, row_bytes);
  select_units<uint16_t>(stream, mask, from, to, row_bytes);
}

}  // namespace depthroute::cuda
