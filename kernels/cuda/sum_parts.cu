// The sum of what all processes sent, in the order of processes: small tensors, f32 or f64.
#include <algorithm>

#include "kernels/cuda/check.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.h"

namespace depthroute::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 1024;

template <typename T>
__global__ void sum_parts_kernel(int64_t parts, int64_t count, const T* from /*[parts, count]*/,
                                 T* to /*[count]*/) {
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    T sum = from[i];
    for (int64_t part = 1; part < parts; ++part) sum += from[part * count + i];
    to[i] = sum;
  }
}

}  // namespace

void sum_parts(Stream stream, const Tensor& from, const Tensor& to) {
  const int64_t count = to.numel(), parts = div_exact(from.numel(), count);
  const dim3 blocks(narrow<unsigned>(std::min(div_ceil(count, kThreads), kMaxBlocks)));
  if (to.dtype == DType::f64)
    return launch(sum_parts_kernel<double>, blocks, dim3(kThreads), 0, handle(stream), parts, count,
                  from.data<double>(), to.data<double>());
  launch(sum_parts_kernel<float>, blocks, dim3(kThreads), 0, handle(stream), parts, count, from.data<float>(),
         to.data<float>());
}

}  // namespace depthroute::cuda
