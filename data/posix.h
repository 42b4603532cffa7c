// File descriptors that close themselves, for data/ and tools/.
#pragma once

#include <cerrno>
#include <string>
#include <string_view>

#include "configs/base/regular_file.h"

namespace depthroute {

/// Owns a descriptor returned by open().
class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor();
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }

 private:
  int fd_;
};

/// Calls open() again if a signal interrupts it.
int open_retrying(const std::string& path, int flags, unsigned mode = 0);

/// A relative path that cannot leave the folder it is relative to: no leading '/', no empty, "." or ".."
/// part, no NUL.
bool stays_inside(std::string_view path);

}  // namespace depthroute
