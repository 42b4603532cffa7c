// A file that others see whole or not at all, for writers that insist on opening it by name.
#pragma once

#include <string>

namespace depthroute {

class AtomicPath {
 public:
  /// Creates missing folders. SystemError where that is refused.
  explicit AtomicPath(const std::string& path);
  ~AtomicPath();  // without commit() nothing remains
  AtomicPath(const AtomicPath&) = delete;
  AtomicPath& operator=(const AtomicPath&) = delete;

  /// Write here, and close it: "<path>.tmp-<pid>".
  const std::string& temporary() const { return temporary_; }
  /// fsync, rename, fsync of the folder.
  void commit();

 private:
  std::string path_, temporary_;
  bool committed_ = false;
};

/// The folder a file is in; "." for a bare name.
std::string folder_of(const std::string& path);
/// Makes it if it is not there. SystemError naming `path` where that is refused.
void make_folder_of(const std::string& path);

}  // namespace depthroute
