// Sums over the rows of a matrix, column by column, in float64. Threads share the matrix by pieces: a block
// of columns and, where the columns are few, a chunk of the rows. Both follow from the matrix's size alone.
#include <algorithm>
#include <array>

#include "kernels/cpu/elementwise.h"
#include "kernels/op_table.h"

namespace depthroute::cpu {
namespace {

/// Sums that a piece keeps in the first-level cache.
constexpr int64_t kBlock = 256;
/// Sums of all chunks; more columns than that are pieces enough without cutting the rows.
constexpr int64_t kPartials = 4096;
constexpr int64_t kMaxChunks = 32;
constexpr int64_t kMinRows = 32;

int64_t chunk_count(int64_t rows, int64_t columns) {
  return std::clamp<int64_t>(std::min(rows / kMinRows, kPartials / columns), 1, kMaxChunks);
}

}  // namespace

int64_t column_sums_workspace(Device, int64_t) { return 0; }

void column_sums(Stream, const Tensor& x, const Tensor& mask, const Tensor& sums, const Tensor&) {
  const int64_t rows = x.rows(), columns = x.cols();
  if (rows == 0 || columns == 0) return;
  const float* const values = x.data<float>();
  const int32_t* const counts = mask.defined() ? mask.data<int32_t>() : nullptr;
  double* const out = sums.data<double>();
  const int64_t chunks = chunk_count(rows, columns), blocks = div_ceil(columns, kBlock);
  std::array<double, kPartials> partials;

#pragma omp parallel for schedule(static) if (x.numel() > kMinParallelElements)
  for (int64_t piece = 0; piece < chunks * blocks; ++piece) {
    const int64_t chunk = piece / blocks, first = piece % blocks * kBlock;
    const int64_t width = std::min(kBlock, columns - first);
    double total[kBlock] = {};
    for (int64_t row = rows * chunk / chunks; row < rows * (chunk + 1) / chunks; ++row) {
      if (counts && counts[row] == 0) continue;
      const float* const v = values + row * columns + first;
#pragma omp simd
      for (int64_t c = 0; c < width; ++c) total[c] += static_cast<double>(v[c]);
    }
    if (chunks > 1)
      std::copy_n(total, width, partials.data() + chunk * columns + first);
    else
      for (int64_t c = 0; c < width; ++c) out[first + c] += total[c];
  }
  if (chunks == 1) return;
  for (int64_t c = 0; c < columns; ++c) {
    double total = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) total += partials[chunk * columns + c];
    out[c] += total;
  }
}

}  // namespace depthroute::cpu
