#include <algorithm>

#include "configs/schema.h"

namespace depthroute {
namespace {

// Damerau-Levenshtein distance, optimal string alignment variant.
size_t edit_distance(const std::string& a, const std::string& b) {
  const size_t width = b.size() + 1;
  std::vector<size_t> table((a.size() + 1) * width);
  const auto cell = [&](size_t i, size_t j) -> size_t& { return table[i * width + j]; };
  for (size_t i = 0; i <= a.size(); ++i) cell(i, 0) = i;
  for (size_t j = 0; j <= b.size(); ++j) cell(0, j) = j;
  for (size_t i = 1; i <= a.size(); ++i)
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = a[i - 1] == b[j - 1] ? 0 : 1;
      cell(i, j) = std::min({cell(i - 1, j) + 1, cell(i, j - 1) + 1, cell(i - 1, j - 1) + change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        cell(i, j) = std::min(cell(i, j), cell(i - 2, j - 2) + 1);
    }
  return cell(a.size(), b.size());
}

}  // namespace

std::vector<std::string> nearest(const std::string& name, const std::vector<std::string>& known) {
  constexpr size_t kLongestName = 64;  // no longer name can be near, and the table stays small
  if (name.size() > kLongestName) return {};
  size_t least = std::max<size_t>(1, name.size() / 3);
  std::vector<std::string> names;
  for (const std::string& candidate : known) {
    const size_t distance = edit_distance(name, candidate);
    if (distance > least) continue;
    if (distance < least) names.clear();
    least = distance;
    names.push_back(candidate);
  }
  return names;
}

}  // namespace depthroute
