// Two HDF5 files, object by object.
#pragma once

#include <string>
#include <vector>

namespace depthroute {

/// What differs: objects, shapes, types, every value by its bits, every attribute. `created`, `command_line`
/// and `history` at the root may differ. Empty if nothing does.
std::vector<std::string> differences(const std::string& path_a, const std::string& path_b);

}  // namespace depthroute
