// Reading: maps, whole files, folders, checksums and patterns. Every error names the file. Writing:
// atomic_path.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "configs/base/regular_file.h"

struct XXH3_state_s;

namespace depthroute {

/// Larger than the JSON of any model or checkpoint: an index takes some 100 bytes a tensor.
inline constexpr int64_t kMaxTextBytes = int64_t{64} << 20;

/// Read-only memory map of a whole file (may be empty). Throws as RegularFile does.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&&) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  int64_t size() const { return static_cast<int64_t>(size_); }
  const FileIdentity& identity() const { return identity_; }  // when it was opened

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  FileIdentity identity_;
};

/// Returns the whole content. DataError if there is no such regular file or it holds more than `max_bytes`,
/// AccessError if it cannot be read.
std::string read_file(const std::string& path, int64_t max_bytes = kMaxTextBytes);
/// Names directly inside, sorted; none if there is no such folder. AccessError if it cannot be listed: such a
/// folder is never taken for an empty one.
std::vector<std::string> list_folder(const std::string& path);
std::string hash_bytes(std::span<const std::byte> bytes);  // XXH3-128, 32 hex digits
std::string hash_file(const std::string& path);
/// hash_bytes() of data that comes in pieces.
class Hasher {
 public:
  Hasher();
  void update(std::span<const std::byte> bytes);
  std::string hex() const;  // of all so far

 private:
  struct Free {
    void operator()(XXH3_state_s* state) const;
  };
  std::unique_ptr<XXH3_state_s, Free> state_;
};
/// Expands * and ?, sorted. DataError if a pattern matches nothing. Returns a path without wildcards
/// unchanged.
std::vector<std::string> expand_patterns(const std::vector<std::string>& patterns);

}  // namespace depthroute
