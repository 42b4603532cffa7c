// How the output head cuts tokens into chunks. Includes no CUDA header: kernels/cost asks, too.
#pragma once

#include <algorithm>
#include <cstdint>

#include "configs/base/check.h"
#include "kernels/tensor.h"

namespace depthroute::cuda {

// Rows at once. Each chunk reads and writes all of dhead, 8 V D bytes, for a product of 2 rows V D
// operations, i.e. rows / 4 operations per byte. An H100 needs about 300 (989 TFLOP/s over 3.35 TB/s), so the
// product hides that traffic from 1200 rows on, and above 4096 there is nothing to gain. 4096 rows of 151936
// classes are 1.2 GiB in bf16. A multiple of 128, a tile of the GEMM.
inline constexpr int64_t kLogitsBudget = int64_t{2} << 30;  // bytes
inline constexpr int64_t kLogitsRowUnit = 128;
inline constexpr int64_t kLogitsMaxRows = 4096;

inline int64_t largest_chunk(int64_t tokens, int64_t bytes_per_row) {
  const int64_t affordable = kLogitsBudget / bytes_per_row / kLogitsRowUnit * kLogitsRowUnit;
  return std::min(round_up(tokens, kLogitsRowUnit), std::clamp(affordable, kLogitsRowUnit, kLogitsMaxRows));
}

/// Chunks of equal size, so that the GEMMs are the same for all but the last.
inline int64_t equal_chunk(int64_t tokens, int64_t largest) {
  return round_up(div_ceil(tokens, div_ceil(tokens, largest)), kLogitsRowUnit);
}

/// Values from one row of logits to the next, padded so that 16-byte accesses work for any number of classes.
inline int64_t logits_stride(int64_t vocab) { return round_up(vocab, 8); }

struct CrossEntropyPlan {
  int64_t stride, floats;
  int64_t rows;           // of float32 logits
  int64_t rows_in_place;  // of logits that their gradient overwrites
};
inline CrossEntropyPlan cross_entropy_plan(DType act, int64_t tokens, int64_t vocab) {
  const int64_t stride = logits_stride(vocab);
  const int64_t rows_in_place = largest_chunk(tokens, stride * size_of(act));
  // One workspace for both: half as many rows in float32 as in bf16, but no less than a tile.
  const int64_t rows = std::max(
      rows_in_place * size_of(act) / size_of(DType::f32) / kLogitsRowUnit * kLogitsRowUnit, kLogitsRowUnit);
  const int64_t floats = std::max(rows_in_place * size_of(act) / size_of(DType::f32), rows) * stride;
  return {stride, floats, rows, rows_in_place};
}

/// The most rows of a chunk of cross_entropy_compare, which holds two of float32 logits.
inline int64_t compare_rows(int64_t tokens, int64_t vocab) {
  return largest_chunk(tokens, 2 * logits_stride(vocab) * 4);
}

inline int64_t compare_floats(int64_t tokens, int64_t vocab) {
  return 2 * compare_rows(tokens, vocab) * logits_stride(vocab);
}

}  // namespace depthroute::cuda
