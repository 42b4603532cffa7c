// A manifest of whatever lies in a folder, as if one process had written it all.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "data/manifest.h"

namespace depthroute {

inline std::vector<ManifestFile> describe_all(const std::string& folder) {
  std::vector<ManifestFile> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    const std::string path = entry.path().lexically_relative(folder).generic_string();
    if (entry.is_regular_file() && path != "manifest.json") files.push_back(describe_file(folder, path));
  }
  return files;
}

inline void write_whole_manifest(const std::string& folder, const std::string& kind, int64_t step) {
  write_manifest(folder, kind, step, describe_all(folder));
}

}  // namespace depthroute
