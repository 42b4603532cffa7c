// Device memory as the host sees it: the tensor itself if the host can read it, otherwise a copy. Code that
// writes files or sums statistics uses this and never asks which device it is on.
#pragma once

#include <vector>

#include "kernels/device.h"
#include "kernels/tensor.h"

namespace depthroute {

class HostView {
 public:
  /// Waits for the stream. `tensor` (contiguous) must outlive the view.
  HostView(Stream stream, const Tensor& tensor);
  HostView(const HostView&) = delete;
  HostView& operator=(const HostView&) = delete;

  /// Same shape and dtype, on the host. A copy has the values as of construction.
  const Tensor& tensor() const { return view_; }

 private:
  std::vector<std::byte> copy_;
  Tensor view_;
};

}  // namespace depthroute
