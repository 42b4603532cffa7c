// Which bytes of memory each launch touches, for kernels that were compiled with -fsanitize=thread: the
// compiler then announces every access, and access_log.cpp takes the calls that ThreadSanitizer would. Shared
// and local memory lie elsewhere and are ignored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace depthroute::cuda::emulator {

struct Accesses {
  int64_t read = 0;     // distinct bytes, unless the launch had written them before
  int64_t written = 0;  // distinct bytes
  int64_t sectors = 0;  // distinct aligned pieces of 32 bytes, read and written ones counted apart
  bool operator==(const Accesses&) const = default;
};

/// Records the launches that complete while it lives, in their order. At most one lives at a time.
class AccessLog {
 public:
  /// Of memory in [begin, begin + bytes) only, aligned as cudaMalloc's.
  AccessLog(const void* begin, size_t bytes);
  ~AccessLog();
  AccessLog(const AccessLog&) = delete;
  AccessLog& operator=(const AccessLog&) = delete;

  const std::vector<Accesses>& launches() const { return launches_; }

  /// For announced().
  void note(uintptr_t address, size_t bytes, bool write);

 private:
  void end_launch();

  uintptr_t begin_;
  size_t bytes_;
  uint16_t launch_ = 1;
  std::vector<uint16_t> last_read_, last_write_;                // per pair of bytes: the last launch that did
  std::vector<uint16_t> last_sector_read_, last_sector_write_;  // per sector
  Accesses current_;
  std::vector<Accesses> launches_;
};

/// The compiler's calls come here.
void announced(const void* address, size_t bytes, bool write);

}  // namespace depthroute::cuda::emulator
