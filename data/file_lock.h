// Keeps two programs from writing the same thing.
#pragma once

#include <string>

namespace depthroute {

/// Holds an exclusive flock on a file while it lives. The kernel releases the lock with the process, so a
/// killed one never leaves a stale lock.
class FileLock {
 public:
  /// What happens to the file when the lock is released.
  enum class Afterwards { keep_file, remove_file };

  /// Makes the file; its folder must exist. ConfigError "<path>: <held>" if another process holds the lock,
  /// e.g. `held` = "another run is writing this folder: wait for it, or set another output". With remove_file
  /// also a ConfigError if the file is none that a lock would have made, i.e. not an empty regular file: it
  /// must not be deleted. SystemError if there can be no lock.
  FileLock(const std::string& path, const std::string& held, Afterwards afterwards);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  std::string path_;
  Afterwards afterwards_;
  int fd_ = -1;
};

}  // namespace depthroute
