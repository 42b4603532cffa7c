#include "eval/measure/columns.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "configs/base/check.h"

namespace depthroute {

static_assert(std::size(kCleanColumns) == static_cast<size_t>(CleanColumn::edge_estimate) + 1);
static_assert(std::size(kCellColumns) == static_cast<size_t>(CellColumn::token_delta_nll) + 1);

const char* to_string(Axis axis) {
  constexpr const char* kNames[] = {"segment", "sequence", "token", "site", "source", "donor"};
  return kNames[static_cast<size_t>(axis)];
}

bool Column::has(Axis axis) const { return std::find(shape().begin(), shape().end(), axis) != shape().end(); }

int64_t Lengths::of(Axis axis) const {
  switch (axis) {
    case Axis::segment:
      return segments;
    case Axis::sequence:
      return sequences;
    case Axis::token:
      return tokens;
    case Axis::site:
      return sites;
    case Axis::source:
      return sources;
    case Axis::donor:
      return donors;
  }
  return 0;
}

int64_t Lengths::size(const Column& column) const {
  int64_t size = 1;
  for (const Axis axis : column.shape()) size *= of(axis);
  return size;
}

double largest_of(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<double>::quiet_NaN();
  return std::max(a, b);
}

void merge_column(Merge merge, std::vector<double>& all, const std::vector<double>& next) {
  if (merge == Merge::moments) {
    all.clear();
    return;
  }
  if (merge == Merge::append || all.empty()) {
    all.insert(all.end(), next.begin(), next.end());
    return;
  }
  DR_CHECK(all.size() == next.size());
  for (size_t i = 0; i < all.size(); ++i)
    all[i] = merge == Merge::add ? all[i] + next[i] : largest_of(all[i], next[i]);
}

}  // namespace depthroute
