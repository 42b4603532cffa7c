// The totals of a training step: the sum of x^2 in float64, and the totals
// of all optimizer shards combined. Partial sums are over pieces of x that
// depend on its length only, not on the GPU, and are added in a fixed order.
#include "kernels/cuda/check.h"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/op_table.h"

namespace depthroute::cuda {
namespace {

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
    total_kernel(int blocks, const double* partials /*[blocks]*/, double* total /*[1]*/) {
  double sum = 0;
  for (int i = threadIdx.x; i < blocks; i += kFinalThreads) sum += partials[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *total = sum;
}

/// One thread: a few hundred numbers, in the order in which the CPU adds them.
__global__ void combine_kernel(int64_t rows, int64_t cols, int64_t num_squares,
                               const double* totals /*[rows, cols]*/, double* loss /*[1]*/,
                               float* norm /*[1]*/) {
  double sum = 0, squares = 0;
  for (int64_t row = 0; row < rows; ++row) {
    sum += totals[row * cols];
    for (int64_t i = 1; i <= num_squares; ++i) squares += totals[row * cols + i];
  }
  *loss = sum;
  *norm = static_cast<float>(sqrt(squares));
}

}  // namespace

int64_t sum_of_squares_workspace(Device) { return squares_floats(); }

void sum_of_squares(Stream stream, const Tensor& x, const Tensor& total, const Tensor& workspace) {
  DR_CHECK_MSG(reinterpret_cast<uintptr_t>(workspace.pointer) % sizeof(double) == 0,
               "sum_of_squares: the workspace holds float64");
  const float* values = pointer<float>(x);
  double* partials = static_cast<double*>(workspace.pointer);
  const unsigned blocks = squares_blocks(x.numel());
  launch(squares_kernel, dim3(blocks), dim3(kElementwiseThreads), 0, handle(stream),
         elements(x.numel(), values), values, partials);
  launch(total_kernel, dim3(1), dim3(kFinalThreads), 0, handle(stream), static_cast<int>(blocks), partials,
         static_cast<double*>(total.pointer));
}

void combine_shard_totals(Stream stream, const Tensor& totals, int64_t num_squares, const Tensor& loss,
                          const Tensor& norm) {
  launch(combine_kernel, dim3(1), dim3(1), 0, handle(stream), totals.rows(), totals.cols(), num_squares,
         static_cast<const double*>(totals.pointer), static_cast<double*>(loss.pointer),
         pointer<float>(norm));
}

}  // namespace depthroute::cuda
