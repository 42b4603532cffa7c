// Device memory as the host sees it: the tensor itself where the host can read it, a copy otherwise. Callers
// that write files or sum statistics use this and never ask which device they are on.
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

  /// Same shape and dtype, on the host. Values as of construction if it is a copy.
  const Tensor& tensor() const { return view_; }

 private:
  std::vector<std::byte> copy_;
  Tensor view_;
};

}  // namespace depthroute
