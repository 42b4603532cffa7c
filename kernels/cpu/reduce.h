// Sums over tokens that do not depend on the number of threads. The tokens are cut into at most
// kReductionChunks chunks, by their number alone. Each chunk has partial sums of its own in the workspace,
// filled by whichever thread gets the chunk; they are added in the order of the chunks.
//
//   float* partials = workspace;                             // reduction_floats(columns) floats
//   reduce_over_tokens(n, columns, workspace, [&](int64_t begin, int64_t end, float* partial) {
//     for (int64_t token = begin; token < end; ++token) ...  // partial[column] += ...   (starts at 0)
//   });                                                      // opens its own parallel region
//   add_partials(n, columns, 0, columns, workspace, dweight);  // dweight[column] += sum over chunks
//
// add_partials takes a range of the columns, so that one reduction can feed several gradients.
#pragma once

#include <algorithm>
#include <cstdint>

#include "configs/base/check.h"

namespace depthroute::cpu {

inline constexpr int64_t kReductionChunks = 32;
/// A shorter chunk costs more to add than to fill.
inline constexpr int64_t kReductionMinTokens = 32;

/// Floats of workspace to sum rows of `columns` values over tokens.
constexpr int64_t reduction_floats(int64_t columns) { return kReductionChunks * columns; }

/// How many chunks n tokens are cut into: 1 ... kReductionChunks.
constexpr int64_t reduction_chunks(int64_t n) {
  return std::clamp<int64_t>(div_ceil(n, kReductionMinTokens), 1, kReductionChunks);
}

struct TokenRange {
  int64_t begin, end;
};

/// Tokens of one chunk; chunks differ by at most one token.
constexpr TokenRange reduction_chunk(int64_t n, int64_t chunk) {
  const int64_t chunks = reduction_chunks(n);
  return {n * chunk / chunks, n * (chunk + 1) / chunks};
}

/// Calls body(begin, end, partial) for every chunk, in parallel; `partial` is `columns` floats, zeroed.
template <typename Body>
void reduce_over_tokens(int64_t n, int64_t columns, float* workspace, const Body& body) {
  const int64_t chunks = reduction_chunks(n);
#pragma omp parallel for schedule(static)
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    float* partial = workspace + chunk * columns;
    std::fill(partial, partial + columns, 0.0f);
    const TokenRange range = reduction_chunk(n, chunk);
    body(range.begin, range.end, partial);
  }
}

/// out[c - first] += sum over chunks, in order, of the partial sums of columns first <= c < last.
inline void add_partials(int64_t n, int64_t columns, int64_t first, int64_t last, const float* workspace,
                         float* out) {
  const int64_t chunks = reduction_chunks(n);
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const float* partial = workspace + chunk * columns;
#pragma omp simd
    for (int64_t c = first; c < last; ++c) out[c - first] += partial[c];
  }
}

}  // namespace depthroute::cpu
