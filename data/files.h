// Whole or absent: writing beside, fsync, rename; reading with errors that name the file; checksums.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
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

/// A file being written beside its final place. Visible under `path` only after commit() (flush, fsync,
/// rename, fsync of the folder). Without commit() nothing remains. Throws SystemError (disk full, unwritable
/// folder) naming the path.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(const void* data, size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }
  /// Overwrites bytes already written (a header that is known last).
  void write_at(int64_t offset, const void* data, size_t size);
  void commit();
  const std::string& temporary_path() const { return temporary_; }

 private:
  std::string path_, temporary_;
  int fd_ = -1;
};
void write_file_atomically(const std::string& path, std::string_view content);

/// A folder being filled beside its final place (`<path>.tmp-<pid>`); commit() fsyncs every file, renames,
/// fsyncs the parent. If `path` exists it is replaced only by the rename. Without commit() nothing remains,
/// not even of what other processes are just writing there. Other processes may write into it until commit();
/// what they have written must be theirs alone and flushed.
class AtomicFolder {
 public:
  explicit AtomicFolder(const std::string& path);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;
  const std::string& path() const { return temporary_; }  // write here
  void commit();

 private:
  std::string path_, temporary_;
  bool committed_ = false;
};

/// Makes `link` point at `target` (relative, inside the same folder) in one rename.
void replace_symlink(const std::string& target, const std::string& link);
/// Renames away first (so that a half-deleted folder never looks whole), then deletes.
void remove_folder(const std::string& path);

/// DataError where there is no such regular file or it holds more than `max_bytes`, AccessError where it
/// cannot be read.
std::string read_file(const std::string& path, int64_t max_bytes = kMaxTextBytes);
/// Names directly inside, sorted; none where there is no such folder. AccessError where that cannot be told:
/// a folder that cannot be listed is never taken for an empty one.
std::vector<std::string> list_folder(const std::string& path);
std::string hash_bytes(std::span<const std::byte> bytes);  // XXH3-128, 32 hex digits
std::string hash_file(const std::string& path);
/// hash_bytes() of what comes in pieces.
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
/// Expands * and ?, sorted; DataError if a pattern matches nothing. A path without wildcards is returned as
/// it is.
std::vector<std::string> expand_patterns(const std::vector<std::string>& patterns);

}  // namespace depthroute
