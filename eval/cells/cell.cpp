#include "eval/cells/cell.h"

#include <fmt/format.h>

#include <algorithm>

namespace depthroute {

bool Cell::uses_donors() const {
  return std::ranges::any_of(site_changes, [](const SiteChange& change) { return change.uses_donors(); });
}

std::string Cell::canonical() const {
  std::string text = canonical_text(site_changes);
  if (uses_donors()) text += fmt::format("donors {} seed {}\n", repeats, donor_seed);
  return text;
}

}  // namespace depthroute
