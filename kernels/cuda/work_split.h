// How work is cut into blocks and chunks, by its size alone, not by the GPU: so results do not depend on the
// GPU, and what partial sums take is known without one (kernels/cost). Includes no CUDA header.
#pragma once

#include <algorithm>
#include <cstdint>

#include "configs/base/check.h"
#include "configs/base/sizes.h"

namespace depthroute::cuda {

// ---- kernels that touch every element once (elementwise.cuh)
inline constexpr int64_t kElementsPerBlock = 2048;  // a pack of 8 for each of 256 threads

/// Enough blocks to fill any GPU; for longer arrays, threads take several packs.
constexpr unsigned elementwise_blocks(int64_t count) {
  constexpr int64_t kMaxBlocks = 4096;
  return static_cast<unsigned>(std::clamp<int64_t>(div_ceil(count, kElementsPerBlock), 1, kMaxBlocks));
}

// ---- sums over an array (step_totals.cu): one float64 per block
inline constexpr int64_t kMaxSquaresBlocks = 1024;
constexpr unsigned squares_blocks(int64_t count) {
  return std::min(elementwise_blocks(count), static_cast<unsigned>(kMaxSquaresBlocks));
}

/// Floats of workspace for them.
constexpr int64_t squares_floats() {
  return kMaxSquaresBlocks * static_cast<int64_t>(sizeof(double) / sizeof(float));
}

// ---- sums over tokens (reduce.cuh): one row of partial sums per chunk
/// Three or four blocks at a time on each of the 132 multiprocessors of a large Hopper GPU.
inline constexpr int64_t kReductionChunks = 528;
inline constexpr int64_t kReductionMinTokens = 8;

/// Floats of workspace to sum rows of `columns` values over tokens.
constexpr int64_t reduction_floats(int64_t columns) { return kReductionChunks * columns; }
/// How many chunks n tokens are cut into: 1 ... kReductionChunks.
constexpr int64_t reduction_chunks(int64_t n) {
  return std::clamp<int64_t>(div_ceil(n, kReductionMinTokens), 1, kReductionChunks);
}

inline constexpr int64_t kMostPartialSums = 32;  // that one launch finishes

// As many chunks as suit the routing kernels' registers: three blocks (first part) or two (second part) at a
// time on each of the 132 multiprocessors of a large Hopper GPU.
inline constexpr int64_t kRoutingChunks = 528;
constexpr int64_t routing_chunks(int64_t n) {
  return std::clamp<int64_t>(div_ceil(n, kReductionMinTokens), 1, kRoutingChunks);
}

// ---- sums of columns in float64 (column_sums.cu)
constexpr int64_t most_column_chunks(int64_t columns) {
  constexpr int64_t kMaxChunks = 512;
  constexpr int64_t kPartials = int64_t{1} << 19;  // sums of all chunks: 4 MiB
  return std::clamp<int64_t>(kPartials / std::max<int64_t>(columns, 1), 1, kMaxChunks);
}
constexpr int64_t column_chunks(int64_t rows, int64_t columns) {
  constexpr int64_t kMinChunkRows = 64;
  return std::clamp<int64_t>(rows / kMinChunkRows, 1, most_column_chunks(columns));
}

/// Floats of workspace, for any number of rows.
constexpr int64_t column_sums_floats(int64_t columns) {
  const int64_t chunks = most_column_chunks(columns);
  return chunks == 1 ? 0 : chunks * columns * static_cast<int64_t>(sizeof(double) / sizeof(float));
}

}  // namespace depthroute::cuda
