// Counter-based random numbers: a value is a function of (key, counter) alone, so results do not depend on
// the order of calls, the threads or the ranks. The mixer is SplitMix64 (Steele, Lea, Flood 2014, "Fast
// splittable pseudorandom number generators"), used as a hash.
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>
#include <utility>

namespace depthroute {

constexpr uint64_t mix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

/// A key for a named stream: FNV-1a over the name, mixed with the seed.
constexpr uint64_t stream_key(uint64_t seed, std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325ULL;
  for (char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return mix64(hash ^ mix64(seed));
}

/// The counter-th output of SplitMix64 started from the hashed key. Not symmetric in its arguments: (1, 2)
/// and (2, 1) are different streams.
constexpr uint64_t random_bits(uint64_t key, uint64_t counter) {
  return mix64(mix64(key ^ 0xd1b54a32d192ed03ULL) + counter * 0x9e3779b97f4a7c15ULL);
}

/// Uniform in [0, bound) without visible bias: the high half of a 64 x 64 bit product.
inline uint64_t random_below(uint64_t key, uint64_t counter, uint64_t bound) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(random_bits(key, counter)) * bound) >> 64);
}

/// Uniform in (0, 1).
inline double random_unit(uint64_t key, uint64_t counter) {
  return (static_cast<double>(random_bits(key, counter) >> 11) + 0.5) * 0x1.0p-53;
}

/// Two independent standard normal values (Box-Muller) from counters 2*pair and 2*pair + 1.
inline std::pair<double, double> random_normal_pair(uint64_t key, uint64_t pair) {
  const double radius = std::sqrt(-2.0 * std::log(random_unit(key, 2 * pair)));
  const double angle = 2.0 * 3.14159265358979323846 * random_unit(key, 2 * pair + 1);
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

}  // namespace depthroute
