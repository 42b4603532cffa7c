#include "kernels/op_table.h"
#include "kernels/ops/checks.h"
#include "kernels/profile.h"

namespace depthroute::ops {

int64_t sum_of_squares_workspace(Device device) { return op_table(device).sum_of_squares_workspace(device); }

void sum_of_squares(Stream stream, const Tensor& x, const Tensor& total, const Tensor& workspace) {
  const ProfileScope profile("sum_of_squares");
  require("sum_of_squares", "x", stream, x, x.shape);
  require("sum_of_squares", "total", stream, total, Shape{1}, DType::f64);
  require_workspace("sum_of_squares", stream, workspace, sum_of_squares_workspace(stream.device));
  op_table(stream.device).sum_of_squares(stream, x, total, workspace);
}

void combine_shard_totals(Stream stream, const Tensor& totals, int64_t num_squares, const Tensor& loss,
                          const Tensor& norm) {
  const ProfileScope profile("combine_shard_totals");
  require("combine_shard_totals", "totals", stream, totals, Shape{totals.rows(), totals.cols()}, DType::f64);
  require("combine_shard_totals", "loss", stream, loss, Shape{1}, DType::f64);
  require("combine_shard_totals", "norm", stream, norm, Shape{1});
  DR_CHECK(num_squares >= 0 && num_squares < totals.cols());
  op_table(stream.device).combine_shard_totals(stream, totals, num_squares, loss, norm);
}

}  // namespace depthroute::ops
