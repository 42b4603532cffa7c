// One writer at a time for a results file or a part.
#pragma once

#include <string>

#include "data/file_lock.h"

namespace depthroute {

/// Holds `<path>.lock` for as long as it lives; the kernel releases it with the process, and the next writer
/// takes the file over.
class OutputLock {
 public:
  /// Makes missing folders, takes the lock and removes what killed writers have left of `path`. ConfigError
  /// if another process holds it, or if a file that is no lock has its name; SystemError if there can be
  /// none.
  explicit OutputLock(const std::string& path);

 private:
  FileLock lock_;
};

}  // namespace depthroute
