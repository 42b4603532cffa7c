#include "kernels/op_table.h"
#include "kernels/ops/checks.h"
#include "kernels/profile.h"

namespace depthroute::ops {

void rms_norm_forward(Stream stream, const Tensor& x, const Tensor& weight, float eps, const Tensor& y,
                      const Tensor& rstd) {
  const ProfileScope profile("rms_norm_forward");
  constexpr const char* kOp = "rms_norm_forward";
  const int64_t n = x.rows();
  const int64_t d = x.cols();
  const DType act = activation_type(kOp, "x", stream, x);
  require(kOp, "x", stream, x, {n, d}, act);
  require(kOp, "weight", stream, weight, {d});
  require(kOp, "y", stream, y, {n, d}, act);
  require(kOp, "rstd", stream, rstd, {n});
  op_table(stream.device).rms_norm_forward(stream, x, weight, eps, y, rstd);
}

void rms_norm_backward(Stream stream, const Tensor& dy, const Tensor& x, const Tensor& weight,
                       const Tensor& rstd, const Tensor& dx, const Tensor& dweight, const Tensor& workspace) {
  const ProfileScope profile("rms_norm_backward");
  constexpr const char* kOp = "rms_norm_backward";
  const int64_t n = x.rows();
  const int64_t d = x.cols();
  const DType act = activation_type(kOp, "x", stream, x);
  require(kOp, "dy", stream, dy, {n, d}, act);
  require(kOp, "x", stream, x, {n, d}, act);
  require(kOp, "weight", stream, weight, {d});
  require(kOp, "rstd", stream, rstd, {n});
  require(kOp, "dx", stream, dx, {n, d}, act);
  require(kOp, "dweight", stream, dweight, {d});
  require_workspace(kOp, stream, workspace, reduction_workspace(stream.device, d));
  op_table(stream.device).rms_norm_backward(stream, dy, x, weight, rstd, dx, dweight, workspace);
}

}  // namespace depthroute::ops
