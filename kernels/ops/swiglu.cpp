#include "kernels/op_table.h"
#include "kernels/ops/checks.h"
#include "kernels/profile.h"

namespace depthroute::ops {

void swiglu_forward(Stream stream, const Tensor& gate_up, const Tensor& act) {
  const ProfileScope profile("swiglu_forward");
  const int64_t n = act.rows();
  const int64_t f = act.cols();
  const DType type = activation_type("swiglu_forward", "act", stream, act);
  require("swiglu_forward", "gate_up", stream, gate_up, {n, 2 * f}, type);
  require("swiglu_forward", "act", stream, act, {n, f}, type);
  op_table(stream.device).swiglu_forward(stream, gate_up, act);
}

void swiglu_backward(Stream stream, const Tensor& dact, const Tensor& gate_up, const Tensor& dgate_up,
                     const Tensor& act) {
  const ProfileScope profile("swiglu_backward");
  constexpr const char* kOp = "swiglu_backward";
  const int64_t n = dact.rows();
  const int64_t f = dact.cols();
  const DType type = activation_type(kOp, "dact", stream, dact);
  require(kOp, "dact", stream, dact, {n, f}, type);
  require(kOp, "gate_up", stream, gate_up, {n, 2 * f}, type);
  require(kOp, "dgate_up", stream, dgate_up, {n, 2 * f}, type);
  if (act.defined()) require(kOp, "act", stream, act, {n, f}, type);
  op_table(stream.device).swiglu_backward(stream, dact, gate_up, dgate_up, act);
}

}  // namespace depthroute::ops
