#include "kernels/replay.h"

#include "kernels/cost/scope.h"
#include "kernels/cuda/device.h"

namespace depthroute {

Replay::~Replay() {
  if (recording_) cuda::discard(recording_);
}

void Replay::run(Stream stream, const std::function<void()>& body) {
  // Libraries choose algorithms and build plans in the first run, which cannot be recorded.
  if (stream.device == Device::cpu || !warm_ || cost::counting()) {
    warm_ = true;
    return body();
  }
  if (!recording_) recording_ = cuda::record(stream, body);
  cuda::replay(stream, recording_);
}

}  // namespace depthroute
