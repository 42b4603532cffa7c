#include "kernels/op_table.h"
#include "kernels/ops/checks.h"
#include "kernels/profile.h"

namespace depthroute::ops {

int64_t column_sums_workspace(Device device, int64_t columns) {
  return op_table(device).column_sums_workspace(device, columns);
}

void column_sums(Stream stream, const Tensor& x, const Tensor& mask, const Tensor& sums,
                 const Tensor& workspace) {
  const ProfileScope profile("column_sums");
  constexpr const char* kOp = "column_sums";
  const int64_t n = x.rows(), columns = x.cols();
  require(kOp, "x", stream, x, {n, columns}, activation_type(kOp, "x", stream, x));
  if (mask.defined()) require(kOp, "mask", stream, mask, {n}, DType::i32);
  require(kOp, "sums", stream, sums, {columns}, DType::f64);
  require_workspace(kOp, stream, workspace, column_sums_workspace(stream.device, columns));
  op_table(stream.device).column_sums(stream, x, mask, sums, workspace);
}

}  // namespace depthroute::ops
