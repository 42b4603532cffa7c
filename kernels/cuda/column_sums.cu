// Sums over the rows of a matrix, column by column, in float64. A block takes 32 columns and a chunk of the
// rows; the chunks' sums are rows of float64 in the workspace, which the same kernel adds up. A matrix of
// many columns is one chunk and needs no workspace. The chunks follow from the matrix's size alone.
#include <cstdint>

#include "kernels/cuda/check.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/cuda/work_split.h"
#include "kernels/op_table.h"

namespace depthroute::cuda {
namespace {

constexpr int kColumns = 32;  // per block: a warp reads consecutive values of a row
constexpr int kRows = 8;      // rows read at once; thread row r adds rows r, r + 8, ... in order

__device__ __forceinline__ double to_double(double x) { return x; }
template <typename T>
__device__ __forceinline__ double to_double(T x) {
  return static_cast<double>(to_float(x));
}

template <typename T, bool kAccumulate>
__global__ void __launch_bounds__(kColumns* kRows)
    column_sums_kernel(int64_t rows, int64_t columns, const T* x /*[rows, columns]*/,
                       const int32_t* mask /*[rows] or null*/, double* sums /*[gridDim.y, columns]*/) {
  __shared__ double partial[kRows][kColumns];
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kColumns + threadIdx.x;
  const TokenRange range = chunk_tokens(rows, gridDim.y, blockIdx.y);
  double sum = 0;
  if (column < columns) {
#pragma unroll 4
    for (int64_t row = range.begin + threadIdx.y; row < range.end; row += kRows)
      if (!mask || mask[row] != 0) sum += to_double(x[row * columns + column]);
  }
  partial[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
  double total = 0;
  for (int row = 0; row < kRows; ++row) total += partial[row][threadIdx.x];
  double& out = sums[blockIdx.y * columns + column];
  out = kAccumulate ? out + total : total;
}

dim3 grid(int64_t columns, int64_t chunks) {
  return dim3(narrow<unsigned>(div_ceil(columns, int64_t{kColumns})), static_cast<unsigned>(chunks));
}

}  // namespace

int64_t column_sums_workspace(Device, int64_t columns) { return column_sums_floats(columns); }

void column_sums(Stream stream, const Tensor& x, const Tensor& mask, const Tensor& sums,
                 const Tensor& workspace) {
  const int64_t rows = x.rows(), columns = x.cols();
  if (rows == 0 || columns == 0) return;
  const int64_t chunks = column_chunks(rows, columns);
  DR_CHECK_MSG(reinterpret_cast<uintptr_t>(workspace.pointer) % sizeof(double) == 0,
               "column_sums: the workspace holds float64");
  const dim3 threads(kColumns, kRows);
  const int32_t* const counts = pointer<int32_t>(mask);
  double* const partials = pointer<double>(workspace);
  with_activation_type(x.dtype, [&]<typename T>() {
    if (chunks == 1)
      launch(column_sums_kernel<T, true>, grid(columns, 1), threads, 0, handle(stream), rows, columns,
             pointer<T>(x), counts, sums.data<double>());
    else
      launch(column_sums_kernel<T, false>, grid(columns, chunks), threads, 0, handle(stream), rows, columns,
             pointer<T>(x), counts, partials);
  });
  if (chunks > 1)
    launch(column_sums_kernel<double, true>, grid(columns, 1), threads, 0, handle(stream), chunks, columns,
           partials, nullptr, sums.data<double>());
}

}  // namespace depthroute::cuda
