// Tijdeman's algorithm for the chairman assignment problem (R. Tijdeman, "The chairman assignment problem",
// Discrete Mathematics 32, 1980): at position n, of the sources that are behind their share by at least 1 /
// (2K - 2), take the one that would be the first to fall behind by more than 1 - 1 / (2K - 2). No assignment
// keeps a smaller bound for all weights. After a cycle every source has exactly its share, so the same
// assignment begins again.
#include "data/tokens/mix.h"

#include <algorithm>
#include <numeric>

#include "configs/base/check.h"

namespace depthroute {

Mix::Mix(std::span<const int64_t> parts) : slots_(parts.size()) {
  constexpr int64_t kMostPositions = int64_t{1} << 20;
  DR_CHECK(!parts.empty() && std::ssize(parts) <= kMostSources);
  for (const int64_t part : parts) DR_CHECK(part >= 1 && part <= kMostPositions);
  const int64_t cycle = std::accumulate(parts.begin(), parts.end(), int64_t{0});
  DR_CHECK(cycle <= kMostPositions);
  const size_t sources = parts.size();
  const auto steps =
      std::max<int64_t>(1, 2 * static_cast<int64_t>(sources) - 2);  // a step: 1 / (2K - 2) of a draw
  std::vector<int64_t> drawn(sources, 0);
  source_.reserve(static_cast<size_t>(cycle));
  // All products are at most 2^20 * 2^20 * 2^11.
  for (int64_t n = 1; n <= cycle; ++n) {
    size_t chosen = sources;
    for (size_t i = 0; i < sources; ++i) {
      if ((n * parts[i] - drawn[i] * cycle) * steps < cycle) continue;
      const auto limit = [&](size_t source) {
        return drawn[source] * steps + steps - 1;
      };  // in steps, over parts
      if (chosen == sources || limit(i) * parts[chosen] < limit(chosen) * parts[i]) chosen = i;
    }
    DR_CHECK(chosen < sources);
    ++drawn[chosen];
    slots_[chosen].push_back(static_cast<uint32_t>(n - 1));
    source_.push_back(static_cast<uint16_t>(chosen));
  }
}

Mix::Draw Mix::at(int64_t k) const {
  DR_CHECK(k >= 0);
  const int64_t source = source_[static_cast<size_t>(k % std::ssize(source_))];
  return {source, draws(source, k)};
}

int64_t Mix::draws(int64_t source, int64_t n) const {
  const int64_t cycle = std::ssize(source_);
  const auto& slots = slots_[static_cast<size_t>(source)];
  const auto before = std::lower_bound(slots.begin(), slots.end(), static_cast<uint32_t>(n % cycle));
  return n / cycle * std::ssize(slots) + (before - slots.begin());
}

}  // namespace depthroute
