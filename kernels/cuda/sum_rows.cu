#include <algorithm>

#include "kernels/cuda/check.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/sum_rows.h"

namespace depthroute::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 1024;

template <typename T>
__global__ void sum_rows_kernel(int64_t rows, int64_t count, const T* from /*[rows, count]*/,
                                T* to /*[count]*/) {
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    T sum = from[i];
    for (int64_t row = 1; row < rows; ++row) sum += from[row * count + i];
    to[i] = sum;
  }
}

}  // namespace

void sum_rows(Stream stream, const Tensor& from, const Tensor& to) {
  const int64_t count = to.numel(), rows = div_exact(from.numel(), count);
  const dim3 blocks(narrow<unsigned>(std::min(div_ceil(count, kThreads), kMaxBlocks)));
  if (to.dtype == DType::f64)
    return launch(sum_rows_kernel<double>, blocks, dim3(kThreads), 0, handle(stream), rows, count,
                  from.data<double>(), to.data<double>());
  launch(sum_rows_kernel<float>, blocks, dim3(kThreads), 0, handle(stream), rows, count, from.data<float>(),
         to.data<float>());
}

}  // namespace depthroute::cuda
