// A folder of a test's own, removed afterwards, and the few things every test of files needs.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "configs/base/error.h"

namespace depthroute {

class TempFolder {
 public:
  TempFolder() {
    path_ = testing::TempDir() + "depthroute-XXXXXX";
    if (::mkdtemp(path_.data()) == nullptr) throw SystemError("mkdtemp failed for {}", path_);
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  /// Names directly inside, sorted.
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& entry : std::filesystem::directory_iterator(path_))
      all.push_back(entry.path().filename());
    std::sort(all.begin(), all.end());
    return all;
  }

 private:
  std::string path_;
};

/// A new file each time: ext4 flushes a file that was truncated and rewritten, 3 ms for every one of
/// thousands.
inline void write_raw(const std::string& path, const std::string& content) {
  std::filesystem::remove(path);
  std::ofstream(path, std::ios::binary) << content;
}

/// Runs `body`, which must throw `Error`; returns its message, which must be one line.
template <typename Error = DataError, typename Body>
std::string message_of(Body body) {
  try {
    body();
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    return text;
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

inline bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace depthroute
