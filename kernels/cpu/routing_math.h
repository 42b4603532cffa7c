// What the depth routing kernels share: a site's arguments as raw pointers, vectors over columns, and the
// last step of reductions over tokens.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include "configs/base/check.h"
#include "kernels/cpu/reduce.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/op_types.h"

namespace depthroute::cpu {

using ops::kMaxSources;

/// Eight columns anywhere in memory.
using Columns __attribute__((vector_size(32), aligned(4), may_alias)) = float;
inline constexpr int64_t kColumns = 8;

/// Consecutive columns of a row, kept in registers together. Kernels are written once and instantiated for
/// blocks of several vectors and for the last D % 8 columns (T = float).
template <int kVectors>
struct [[gnu::may_alias]] Block {
  Columns v[kVectors];

  // Written out, because g++ copies and clears an aggregate of vectors through memory.
  Block() {
    // Not through a Columns&: a reference would lose the type's alignment of 4.
    for (int i = 0; i < kVectors; ++i) v[i] = Columns{};
  }
  Block(const Block& x) {
    for (int i = 0; i < kVectors; ++i) v[i] = x.v[i];
  }
  Block& operator=(const Block& x) {
    for (int i = 0; i < kVectors; ++i) v[i] = x.v[i];
    return *this;
  }
  Block& operator+=(const Block& x) {
    for (int i = 0; i < kVectors; ++i) v[i] += x.v[i];
    return *this;
  }
  friend Block operator+(const Block& x, const Block& y) {
    Block z;
    for (int i = 0; i < kVectors; ++i) z.v[i] = x.v[i] + y.v[i];
    return z;
  }
  friend Block operator-(const Block& x, const Block& y) {
    Block z;
    for (int i = 0; i < kVectors; ++i) z.v[i] = x.v[i] - y.v[i];
    return z;
  }
  friend Block operator*(const Block& x, const Block& y) {
    Block z;
    for (int i = 0; i < kVectors; ++i) z.v[i] = x.v[i] * y.v[i];
    return z;
  }
  friend Block operator*(float x, const Block& y) {
    Block z;
    for (int i = 0; i < kVectors; ++i) z.v[i] = x * y.v[i];
    return z;
  }
};

template <typename T>
const T& load(const float* p) {
  return *reinterpret_cast<const T*>(p);
}
template <typename T>
T& at(float* p) {
  return *reinterpret_cast<T*>(p);
}

/// Prefetches the columns that T covers at p. Rows of D columns are too short for the hardware's prefetcher
/// to get going, and a token's rows are far apart: this is worth a factor of 1.5.
template <typename T>
void prefetch(const float* p) {
  if constexpr (sizeof(T) > sizeof(float))
    for (size_t i = 0; i < sizeof(T); i += 64) __builtin_prefetch(reinterpret_cast<const char*>(p) + i);
}

/// sum += x, in lanes: the order of additions does not depend on the machine's vector width.
template <int kSums>
void accumulate(Block<kSums>& sum, float x) {
  sum.v[0][0] += x;
}
template <int kSums, int kVectors>
void accumulate(Block<kSums>& sum, const Block<kVectors>& x) {
  for (int i = 0; i < kVectors; ++i) sum.v[i % kSums] += x.v[i];
}
template <int kSums>
double total(const Block<kSums>& sum) {
  Columns lanes = sum.v[0];
  for (int i = 1; i < kSums; ++i) lanes += sum.v[i];
  double result = 0;
  for (int i = 0; i < kColumns; ++i) result += lanes[i];
  return result;
}

/// Calls body.operator()<T>(column) for columns [begin, end).
template <int kVectors, typename Body>
void for_columns(int64_t begin, int64_t end, const Body& body) {
  int64_t i = begin;
  for (; i + kVectors * kColumns <= end; i += kVectors * kColumns)
    body.template operator()<Block<kVectors>>(i);
  for (; i + kColumns <= end; i += kColumns) body.template operator()<Block<1>>(i);
  for (; i < end; ++i) body.template operator()<float>(i);
}

/// A site's arguments, checked and unpacked once per call.
struct RoutingArguments {
  explicit RoutingArguments(const RoutingSite& site)
      : n(static_cast<int>(site.sources.size())),
        query(site.query.defined() ? site.query.data<float>() : nullptr),
        key_norm(site.query.defined() ? site.key_norm.data<float>() : nullptr) {
    DR_CHECK(n >= 1 && n <= kMaxSources);
    DR_CHECK(site.offset.empty() || static_cast<int>(site.offset.size()) == n);
    DR_CHECK(site.scale.empty() || static_cast<int>(site.scale.size()) == n);
    bool any_kept = false;
    for (int j = 0; j < n; ++j) {
      source[j] = site.sources[j].data<float>();
      rows[j] = site.sources[j].rows();
      bias[j] = site.offset_of(j);
      scale[j] = site.scale_of(j);
      dropped[j] = site.drops(j);
      any_kept |= !dropped[j];
    }
    DR_CHECK_MSG(any_kept, "an offset of -inf on every source of a site");
    if (site.recency_bias.defined()) bias[n - 1] += site.recency_bias.data<float>()[0];
  }

  /// The row of source j that `token` reads.
  const float* row(int j, int64_t token, int64_t d) const { return source[j] + token % rows[j] * d; }

  int n;
  const float* query;     // nullptr: the logits are just `bias`
  const float* key_norm;  // nullptr if query is
  std::array<float*, kMaxSources> source;
  std::array<int64_t, kMaxSources> rows;  // N; R for a replaced source
  std::array<float, kMaxSources> bias;    // offset, and the recency bias on the last source
  std::array<float, kMaxSources> scale;
  std::array<bool, kMaxSources> dropped;
};

/// What a site's RMSNorm multiplies by.
inline float norm_factor(float weight) { return weight + std::copysign(ops::kNormWeightStep, weight); }

/// The sources of one token that contribute, and its mix h = sum_k factor[k] row[k]. Sources with a weight of
/// 0 are left out, not multiplied: a dropped source may hold anything, and 0 * inf is not 0.
struct Mix {
  int count = 0;
  std::array<const float*, kMaxSources> row;
  std::array<float, kMaxSources> factor;

  void add(const float* source_row, float source_factor) {
    row[count] = source_row;
    factor[count++] = source_factor;
  }
  template <typename T>
  T at_column(int64_t i) const {
    T h{};
    for (int k = 0; k < count; ++k) h += factor[k] * load<T>(row[k] + i);
    return h;
  }
};

/// Scalars of a source's gradient at one token, for both parts of backward: dV = to_dh dh + to_u u - to_v V.
struct SourceTerms {
  float dlogit = 0;
  float to_dh = 0;  // scale a
  float to_u = 0;   // dlogit r
  float to_v = 0;   // dlogit r^3 c / D
};
inline SourceTerms source_terms(float weight, float scale, float inv_rms, float dot, int64_t d,
                                double dlogit) {
  SourceTerms terms;
  terms.dlogit = static_cast<float>(dlogit);
  terms.to_dh = scale * weight;
  terms.to_u = terms.dlogit * inv_rms;
  terms.to_v = terms.to_u * (inv_rms * inv_rms * dot / static_cast<float>(d));
  return terms;
}

/// Returns the sum over chunks of one column of the partial sums.
inline double column_total(int64_t n, int64_t columns, int64_t column, const float* workspace) {
  double total = 0;
  for (int64_t chunk = 0; chunk < reduction_chunks(n); ++chunk) total += workspace[chunk * columns + column];
  return total;
}

/// Adds to the gradients of query and key_norm, from the partial sums of du in columns [first, first + D);
/// u = query * key_norm.
inline void add_query_gradients(int64_t n, int64_t d, int64_t columns, int64_t first, const float* workspace,
                                const RoutingSite& site, const RoutingGradients& gradients) {
  if (!gradients.query.defined()) return;
  const float *query = site.query.data<float>(), *key_norm = site.key_norm.data<float>();
  float *dquery = gradients.query.data<float>(), *dkey_norm = gradients.key_norm.data<float>();
  for (int64_t i = 0; i < d; ++i) {
    const double du = column_total(n, columns, first + i, workspace);
    dquery[i] += static_cast<float>(du * key_norm[i]);
    dkey_norm[i] += static_cast<float>(du * query[i]);
  }
}

}  // namespace depthroute::cpu
