// A permutation of [0, n) that is computed, not stored: a balanced Feistel network over 2 * half_bits bits
// (Luby and Rackoff 1988; any round function gives a bijection), applied again while the result is not below
// n ("cycle-walking", Black and Rogaway, CT-RSA 2002). The domain is less than 4n (or 4 if n is tiny), so
// four applications are expected at most.
#include "data/tokens/sampler.h"

#include "configs/base/check.h"
#include "configs/base/random.h"

namespace depthroute {
namespace {

// Four would do for large domains; tiny ones (half_bits 1) need more to reach all permutations about equally
// often.
constexpr int kRounds = 12;

uint64_t permute(uint64_t x, uint64_t key, int half_bits) {
  const uint64_t mask = (uint64_t{1} << half_bits) - 1;
  // Feistel networks over at least 4 bits are even permutations. Swapping two elements by a bit of the key
  // reaches the odd ones as well, without which the orders of 5 or 6 samples are visibly uneven.
  if (x < 2) x ^= key & 1;
  uint64_t left = x >> half_bits, right = x & mask;
  for (int round = 1; round <= kRounds; ++round) {
    const uint64_t scrambled = random_bits(mix64(key + static_cast<uint64_t>(round)), right);
    const uint64_t next = left ^ (scrambled >> 32 & mask);
    left = right;
    right = next;
  }
  return left << half_bits | right;
}

}  // namespace

Sampler::Sampler(int64_t num_samples, DataOrder order, uint64_t seed)
    : num_samples_(num_samples), order_(order), seed_(seed), half_bits_(1) {
  DR_CHECK(num_samples >= 1 && num_samples <= int64_t{1} << 60);
  while (int64_t{1} << (2 * half_bits_) < num_samples) ++half_bits_;
}

int64_t Sampler::sample(int64_t k) const {
  DR_CHECK(k >= 0);
  const int64_t position = k % num_samples_;
  if (order_ == DataOrder::sequential) return position;
  const uint64_t key = random_bits(mix64(seed_), static_cast<uint64_t>(epoch(k)));
  uint64_t x = static_cast<uint64_t>(position);
  do {
    x = permute(x, key, half_bits_);
  } while (x >= static_cast<uint64_t>(num_samples_));
  return static_cast<int64_t>(x);
}

}  // namespace depthroute
