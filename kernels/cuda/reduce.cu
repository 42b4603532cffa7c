// Stage two of reductions over tokens: the sum of the chunks' partial sums, column by column.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/op_table.h"

namespace depthroute::cuda {
namespace {

constexpr int kColumns = 32;  // per block: one warp reads 128 consecutive bytes of a row
constexpr int kRows = 16;     // rows read at once; row r adds chunks r, r + 16, ... in order

__global__ void add_partials_kernel(int64_t chunks, int64_t columns, int64_t first, int64_t count,
                                    const float* partials /*[chunks, columns]*/, float* out /*[count]*/) {
  __shared__ double sums[kRows][kColumns];
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kColumns + threadIdx.x;
  double sum = 0;
  if (column < count)
    for (int64_t chunk = threadIdx.y; chunk < chunks; chunk += kRows)
      sum += static_cast<double>(partials[chunk * columns + first + column]);
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= count) return;
  double total = 0;
  for (int row = 0; row < kRows; ++row) total += sums[row][threadIdx.x];
  out[column] += static_cast<float>(total);
}

}  // namespace

int64_t reduction_workspace(Device, int64_t columns) { return reduction_floats(columns); }

void add_partials(cudaStream_t stream, int64_t chunks, int64_t columns, int64_t first, int64_t count,
                  const float* partials, float* out) {
  launch(add_partials_kernel, dim3(static_cast<unsigned>(div_ceil(count, int64_t{kColumns}))),
         dim3(kColumns, kRows), 0, stream, chunks, columns, first, count, partials, out);
}

}  // namespace depthroute::cuda
