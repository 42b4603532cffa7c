#include "kernels/op_table.h"
#include "kernels/ops/checks.h"
#include "kernels/profile.h"

namespace depthroute::ops {

void select_rows(Stream stream, const Tensor& mask, const Tensor& from, const Tensor& to) {
  const ProfileScope profile("select_rows");
  constexpr const char* kOp = "select_rows";
  const DType type = activation_type(kOp, "to", stream, to);
  const Shape shape{to.rows(), to.cols()};
  require(kOp, "mask", stream, mask, {to.rows()}, DType::i32);
  require(kOp, "from", stream, from, shape, type);
  require(kOp, "to", stream, to, shape, type);
  op_table(stream.device).select_rows(stream, mask, from, to);
}

}  // namespace depthroute::ops
