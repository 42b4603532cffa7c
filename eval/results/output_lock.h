// One writer at a time for a results file or a part.
#pragma once

#include <string>

#include "data/file_lock.h"

namespace depthroute {

/// Holds `<path>.lock` while it lives.
class OutputLock {
 public:
  /// Makes missing folders, takes the lock and removes what killed writers left of `path`. Throws as
  /// FileLock, and SystemError if the folders cannot be made.
  explicit OutputLock(const std::string& path);

 private:
  FileLock lock_;
};

}  // namespace depthroute
