#include "configs/terms.h"

#include <fmt/ranges.h>

#include "configs/base/error.h"

namespace depthroute {

void fail_unknown_name(std::string_view what, std::string_view text, const std::vector<std::string>& known) {
  throw ConfigError("{} must be one of {}, got '{}'", what, fmt::join(known, ", "), text);
}

}  // namespace depthroute
