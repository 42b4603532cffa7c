// Reading what a user names as an input: regular files only. A FIFO, a device or a socket is refused at once
// instead of being waited for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace depthroute {

/// "No space left on device; free space or choose another folder": the system's words and, where there is
/// one, a remedy.
std::string errno_text(int error);

/// Whether `error` says that a path names nothing (as against something that cannot be reached).
bool means_absent(int error);

/// Throws what a failed call on an input means: DataError where nothing is there, AccessError otherwise.
/// "<path>: <action>: <the system's words>".
[[noreturn]] void throw_unreadable(const std::string& path, const std::string& action, int error);

/// Whether anything is at `path`, links followed: a dangling link is nothing. AccessError where that cannot
/// be told.
bool exists(const std::string& path);
/// Whether it is a folder, links followed. AccessError likewise.
bool is_folder(const std::string& path);

/// Tells a file from every other, and from itself after a change: equal where nothing has written to it in
/// between (within the clock's resolution).
struct FileIdentity {
  uint64_t device = 0, inode = 0;
  int64_t size = 0, modified_ns = 0, changed_ns = 0;
  bool operator==(const FileIdentity&) const = default;
};
/// Of the file now at `path`; nothing where there is none.
std::optional<FileIdentity> identify(const std::string& path);

/// A regular file opened for reading; owns the descriptor.
class RegularFile {
 public:
  /// Never blocks. DataError if nothing is there or it is not a regular file, AccessError if it cannot be
  /// opened; `failure` is what the message says then.
  explicit RegularFile(const std::string& path, const std::string& failure = "cannot open");
  ~RegularFile();
  RegularFile(const RegularFile&) = delete;
  RegularFile& operator=(const RegularFile&) = delete;

  int descriptor() const { return fd_; }
  int64_t size() const { return identity_.size; }  // bytes when it was opened
  const FileIdentity& identity() const { return identity_; }
  /// The next bytes, as many as there are at once; 0 at the end. AccessError if reading fails.
  size_t read(std::span<std::byte> out);
  /// All that is left. DataError if it is more than `max_bytes`: whatever this is, it is not the small file
  /// that was expected.
  std::string read_all(int64_t max_bytes);

 private:
  std::string path_;
  int fd_ = -1;
  FileIdentity identity_;
};

}  // namespace depthroute
