// Work that is put on a stream the same way many times, e.g. one micro-batch's forward and backward pass. The
// first run executes it, the second records it (a CUDA graph) if the device can, and later ones replay the
// recording, which saves the host the time of hundreds of launches. On the CPU every run executes.
#pragma once

#include <functional>

#include "kernels/device.h"

namespace depthroute {

class Replay {
 public:
  Replay() = default;
  Replay(const Replay&) = delete;
  Replay& operator=(const Replay&) = delete;
  ~Replay();

  /// `body` must put the same work on `stream` every time: same tensors, same numbers. It must not wait for
  /// the stream, allocate, or copy from or to host memory.
  void run(Stream stream, const std::function<void()>& body);

 private:
  bool warm_ = false;
  void* recording_ = nullptr;
};

}  // namespace depthroute
