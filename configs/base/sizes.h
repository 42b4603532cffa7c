// Arithmetic on sizes that a configuration asks for (bytes, elements). Overflow of int64 is an error in the
// configuration, never a smaller number.
#pragma once

#include <cstdint>
#include <limits>

namespace depthroute {

/// ConfigError: "the model and batch of this configuration need more than 2^63 bytes ...".
[[noreturn]] void throw_too_large();

/// Sizes must not be negative.
inline int64_t checked_product(int64_t a, int64_t b) {
  int64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) [[unlikely]]
    throw_too_large();
  return product;
}
template <typename... Factors>
int64_t checked_product(int64_t a, int64_t b, Factors... others) {
  return checked_product(checked_product(a, b), others...);
}

inline int64_t checked_sum(int64_t a, int64_t b) {
  int64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) [[unlikely]]
    throw_too_large();
  return sum;
}

/// Returns the least multiple of `multiple` that is not below `size`.
inline int64_t checked_round_up(int64_t size, int64_t multiple) {
  return checked_sum(size, multiple - 1) / multiple * multiple;
}

}  // namespace depthroute
