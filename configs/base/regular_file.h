// Reads inputs that a user names: regular files only. Refuses a FIFO, device or socket at once instead of
// waiting for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace depthroute {

/// The system's words for `error` and, if there is one, a remedy: "No space left on device; free space or
/// choose another folder".
std::string errno_text(int error);

/// Whether `error` says that a path names nothing, as opposed to something out of reach.
bool means_absent(int error);

/// Throws DataError if nothing is there, AccessError otherwise: "<path>: <action>: <the system's words>".
[[noreturn]] void throw_unreadable(const std::string& path, const std::string& action, int error);

/// Whether anything is at `path`. Follows links: a dangling one is nothing. AccessError if that is
/// unknowable.
bool exists(const std::string& path);
/// Whether a folder is at `path`. Follows links; AccessError as above.
bool is_folder(const std::string& path);

/// Identifies a file and its version: equal if nothing has written to the file in between, within the clock's
/// resolution.
struct FileIdentity {
  uint64_t device = 0, inode = 0;
  int64_t size = 0, modified_ns = 0, changed_ns = 0;
  bool operator==(const FileIdentity&) const = default;
};
/// The identity of the file now at `path`; nothing if there is none.
std::optional<FileIdentity> identify(const std::string& path);

/// A regular file opened for reading; owns the descriptor.
class RegularFile {
 public:
  /// Never blocks. DataError if nothing is there or it is not a regular file, AccessError with the words
  /// `failure` if it cannot be opened.
  explicit RegularFile(const std::string& path, const std::string& failure = "cannot open");
  ~RegularFile();
  RegularFile(const RegularFile&) = delete;
  RegularFile& operator=(const RegularFile&) = delete;

  int descriptor() const { return fd_; }
  int64_t size() const { return identity_.size; }  // bytes when it was opened
  const FileIdentity& identity() const { return identity_; }
  /// Reads the next bytes, as many as one call yields. Returns their number, 0 at the end. AccessError on
  /// failure.
  size_t read(std::span<std::byte> out);
  /// Reads to the end. DataError beyond `max_bytes`: whatever this is, it is not the small file expected
  /// here.
  std::string read_all(int64_t max_bytes);

 private:
  std::string path_;
  int fd_ = -1;
  FileIdentity identity_;
};

}  // namespace depthroute
