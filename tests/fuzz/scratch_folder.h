// A folder for what a fuzzer's bytes are laid beside, and texts that nest deeper than a fuzzer would make
// them.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "configs/base/check.h"
#include "configs/base/error.h"

namespace depthroute {

/// In memory where there is such a file system; goes with the process.
class ScratchFolder {
 public:
  ScratchFolder() {
    path_ = ::access("/dev/shm", W_OK) == 0 ? "/dev/shm/fuzz-XXXXXX" : "fuzz-XXXXXX";
    if (::mkdtemp(path_.data()) == nullptr) std::abort();
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  /// Makes the folders that `name` asks for. Returns the path.
  std::string write(const std::string& name, std::string_view content) const {
    const std::string path = *this / name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file.write(content.data(), static_cast<std::streamsize>(content.size()));
    if (!file.flush()) std::abort();
    return path;
  }

 private:
  std::string path_;
};

/// JSON that nests deeper than a fuzzer's short inputs can: `before`, very many lists or objects in each
/// other, `after`; closed and not.
inline std::vector<std::string> deep_texts(const std::string& before, const std::string& after) {
  constexpr int kDepth = 1000000;
  std::string lists, ends, objects;
  for (int depth = 0; depth < kDepth; ++depth) {
    lists += '[';
    ends += ']';
    objects += "{\"a\":";
  }
  return {before + lists + ends + after, before + lists, before + objects};
}

/// Every refusal is one line.
inline void check_message(const InputError& error) {
  DR_CHECK(std::strlen(error.what()) > 0 && std::strchr(error.what(), '\n') == nullptr);
}

}  // namespace depthroute
