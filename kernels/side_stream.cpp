#include "kernels/side_stream.h"

#include <utility>

#include "configs/base/check.h"
#include "kernels/cost/scope.h"
#include "kernels/cuda/device.h"

namespace depthroute {

struct SideStream::Cuda {
  cuda::SeparateStream stream;
  cuda::Event forked, joined;
};

SideStream::SideStream(Device device)
    : cuda_(device == Device::cuda && !cost::counting() ? std::make_unique<Cuda>() : nullptr) {}
SideStream::~SideStream() = default;

void SideStream::run(Stream main, const std::function<void(Stream)>& body) {
  DR_CHECK_MSG(!forked_, "SideStream: join() before the next run()");
  forked_ = true;
  if (cost::counting()) {
    cost::set_beside(true);
    body(main);
    cost::set_beside(false);
    return;
  }
  if (!cuda_) return body(main);
  cuda_->forked.record(main);
  cuda_->forked.hold(cuda_->stream.get());
  body(cuda_->stream.get());
  cuda_->joined.record(cuda_->stream.get());
}

void SideStream::join(Stream main) {
  if (!std::exchange(forked_, false)) return;
  if (cost::counting()) return cost::wait_for_beside();
  if (cuda_) cuda_->joined.hold(main);
}

}  // namespace depthroute
