// norm = sqrt(sum of x^2), in float64: partial sums over parts of x that depend on its length alone, not on
// the GPU, then their sum in a fixed order.
#include "kernels/cuda/check.h"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.h"

namespace depthroute::cuda {
namespace {

constexpr int kMaxBlocks = 1024;
constexpr int kFinalThreads = 256;

__global__ void __launch_bounds__(kElementwiseThreads)
    squares_kernel(Elements all, const float* x /*[count]*/, double* partials /*[blocks]*/) {
  double sum = 0;
#pragma unroll 2
  for (int64_t i = first_element(); i < all.count; i += element_stride()) {
    const Pack pack = load_elements(x, i, all);
#pragma unroll
    for (int k = 0; k < kPack; ++k) {
      const double value = static_cast<double>(pack.x[k]);
      sum += value * value;
    }
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kFinalThreads)
    root_kernel(int blocks, const double* partials /*[blocks]*/, float* norm /*[1]*/) {
  double sum = 0;
  for (int i = threadIdx.x; i < blocks; i += kFinalThreads) sum += partials[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *norm = static_cast<float>(sqrt(sum));
}

}  // namespace

int64_t global_norm_workspace() { return kMaxBlocks * static_cast<int64_t>(sizeof(double) / sizeof(float)); }

void global_norm(Stream stream, const Tensor& x, const Tensor& norm, const Tensor& workspace) {
  DR_CHECK_MSG(reinterpret_cast<uintptr_t>(workspace.pointer) % sizeof(double) == 0,
               "global_norm: the workspace holds float64");
  const float* values = pointer<float>(x);
  double* partials = static_cast<double*>(workspace.pointer);
  const unsigned blocks = std::min<unsigned>(elementwise_blocks(x.numel()), kMaxBlocks);
  launch(squares_kernel, dim3(blocks), dim3(kElementwiseThreads), 0, handle(stream),
         elements(x.numel(), values), values, partials);
  launch(root_kernel, dim3(1), dim3(kFinalThreads), 0, handle(stream), static_cast<int>(blocks), partials,
         pointer<float>(norm));
}

}  // namespace depthroute::cuda
