// Small guards used everywhere. DR_CHECK is for programmer errors only (it stays on in release builds: a
// wrong number in a paper costs more than a branch); whatever a user can cause is an exception from error.h.
#pragma once

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <type_traits>

namespace depthroute {

[[noreturn]] void check_failed(const char* expression, const char* file, int line, const char* message);

#define DR_CHECK(expr)                                           \
  do {                                                           \
    if (!(expr)) [[unlikely]]                                    \
      ::depthroute::check_failed(#expr, __FILE__, __LINE__, ""); \
  } while (false)
#define DR_CHECK_MSG(expr, message)                                   \
  do {                                                                \
    if (!(expr)) [[unlikely]]                                         \
      ::depthroute::check_failed(#expr, __FILE__, __LINE__, message); \
  } while (false)

/// Converts between integer types; throws std::out_of_range instead of changing the value.
template <typename To, typename From>
constexpr To narrow(From value) {
  static_assert(std::is_integral_v<To> && std::is_integral_v<From>);
  const To result = static_cast<To>(value);
  if (static_cast<From>(result) != value || ((result < To{}) != (value < From{})))
    throw std::out_of_range("narrow: integer does not fit the narrower type");
  return result;
}

constexpr int64_t div_ceil(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// a / b; a remainder is a programmer error.
constexpr int64_t div_exact(int64_t a, int64_t b) {
  if (b == 0 || a % b != 0) check_failed("a % b == 0", __FILE__, __LINE__, "div_exact");
  return a / b;
}

constexpr int64_t round_up(int64_t a, int64_t multiple) { return div_ceil(a, multiple) * multiple; }

}  // namespace depthroute
