// kernels/cuda/device.h for builds without CUDA: says so, and does nothing else.
#include "configs/base/check.h"
#include "kernels/cuda/device.h"

namespace depthroute::cuda {

bool built() { return false; }

const std::string& unavailable() {
  static const std::string reason = "this program was built without CUDA";
  return reason;
}

namespace {
[[noreturn]] void unreachable() {
  DR_CHECK_MSG(false, "this build has no backend for the device");
  std::abort();
}
}  // namespace

std::string describe() { unreachable(); }
int64_t process_bytes() { unreachable(); }
Stream make_stream() { unreachable(); }
void synchronize(Stream) { unreachable(); }
void* allocate(int64_t) { unreachable(); }
void deallocate(void*) { unreachable(); }
void* record(Stream, const std::function<void()>&) { unreachable(); }
void replay(Stream, void*) { unreachable(); }
void discard(void*) {}

}  // namespace depthroute::cuda
