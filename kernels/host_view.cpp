#include "kernels/host_view.h"

#include "kernels/ops/ops.h"

namespace depthroute {

HostView::HostView(Stream stream, const Tensor& tensor) : view_(tensor) {
  DR_CHECK(tensor.contiguous());
  if (tensor.device != Device::cpu) {
    copy_.resize(static_cast<size_t>(tensor.bytes()));
    view_.pointer = copy_.data();
    view_.device = Device::cpu;
    ops::copy(stream, tensor, view_);
  }
  synchronize(stream);
}

}  // namespace depthroute
