// Stage two of reductions over tokens: the sum of the chunks' partial sums, column by column, for many
// reductions in one launch.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/op_table.h"

namespace depthroute::cuda {
namespace {

constexpr int kColumns = 32;  // per block: one warp reads 128 consecutive bytes of a row
constexpr int kRows = 16;     // rows read at once; row r adds chunks r, r + 16, ... in order

struct Sums {
  struct {
    const float* partials;  // [chunks, columns], from the first column that is summed
    float* out;             // [count]
    int64_t columns, count;
  } of[kMostPartialSums];
};

__global__ void add_partial_sums_kernel(const __grid_constant__ Sums sums_of, int64_t chunks) {
  __shared__ double sums[kRows][kColumns];
  const auto& mine = sums_of.of[blockIdx.y];
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kColumns + threadIdx.x;
  double sum = 0;
  if (column < mine.count)
    for (int64_t chunk = threadIdx.y; chunk < chunks; chunk += kRows)
      sum += static_cast<double>(mine.partials[chunk * mine.columns + column]);
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= mine.count) return;
  double total = 0;
  for (int row = 0; row < kRows; ++row) total += sums[row][threadIdx.x];
  mine.out[column] += static_cast<float>(total);
}

}  // namespace

int64_t reduction_workspace(Device, int64_t columns) { return reduction_floats(columns); }

void add_partial_sums(Stream stream, int64_t tokens, std::span<const PartialSums> sums) {
  for (size_t first = 0; first < sums.size(); first += kMostPartialSums) {
    const size_t count = std::min<size_t>(kMostPartialSums, sums.size() - first);
    Sums arguments{};
    int64_t widest = 0;
    for (size_t i = 0; i < count; ++i) {
      const PartialSums& s = sums[first + i];
      arguments.of[i] = {pointer<float>(s.partials) + s.first, pointer<float>(s.sum), s.columns,
                         s.sum.numel()};
      widest = std::max(widest, s.sum.numel());
    }
    launch(add_partial_sums_kernel,
           dim3(static_cast<unsigned>(div_ceil(widest, int64_t{kColumns})), static_cast<unsigned>(count)),
           dim3(kColumns, kRows), 0, handle(stream), arguments, reduction_chunks(tokens));
  }
}

}  // namespace depthroute::cuda
