#include "kernels/op_table.h"
#include "kernels/ops/checks.h"
#include "kernels/profile.h"

namespace depthroute::ops {

void adamw(Stream stream, const AdamwStep& step, const Tensor& norm, const Tensor& loss, const Tensor& grad,
           const Tensor& param, const Tensor& m, const Tensor& v, const Tensor& compute) {
  const ProfileScope profile("adamw");
  require("adamw", "norm", stream, norm, Shape{1});
  require("adamw", "loss", stream, loss, Shape{1}, DType::f64);
  require("adamw", "grad", stream, grad, param.shape);
  require("adamw", "param", stream, param, param.shape);
  require("adamw", "m", stream, m, param.shape);
  require("adamw", "v", stream, v, param.shape);
  if (compute.defined()) require("adamw", "compute", stream, compute, param.shape, DType::bf16);
  DR_CHECK_MSG(step.step >= 1, "adamw: steps are counted from 1");
  DR_CHECK_MSG(step.max_norm >= 0.0f, "adamw: max_norm must not be negative");
  op_table(stream.device).adamw(stream, step, norm, loss, grad, param, m, v, compute);
}

}  // namespace depthroute::ops
