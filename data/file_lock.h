// Keeps two programs from writing the same thing.
#pragma once

#include <string>

namespace depthroute {

/// An exclusive flock on a file, for as long as the object lives. The kernel releases it with the process, so
/// a killed one never leaves a stale lock.
class FileLock {
 public:
  enum class Afterwards { keep_file, remove_file };

  /// Makes the file; its folder must exist. ConfigError "<path>: <held>" if another process holds the lock,
  /// e.g. `held` = "another run is writing this folder: wait for it, or set another output"; SystemError if
  /// there can be no lock.
  FileLock(const std::string& path, const std::string& held, Afterwards afterwards);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  std::string path_;
  Afterwards afterwards_;
  int fd_ = -1;
};

/// Deletes `<path>.tmp-<digits>...`: what killed writers of `path` (data/files.h) have left beside it. Only
/// under the lock that keeps living writers out. Not being able to is no error.
void remove_leftovers_of(const std::string& path);

}  // namespace depthroute
