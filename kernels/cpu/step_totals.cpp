// The totals of a training step: sums of squared gradients, and the totals of all optimizer shards combined.
#include <cmath>

#include "kernels/cpu/elementwise.h"
#include "kernels/op_table.h"

namespace depthroute::cpu {

int64_t sum_of_squares_workspace(Device) { return 0; }

void sum_of_squares(Stream, const Tensor& x, const Tensor& total, const Tensor&) {
  *total.data<double>() = sum_of(x.numel(), x.data<float>(), [](double v) { return v * v; });
}

void combine_shard_totals(Stream, const Tensor& totals, int64_t num_squares, const Tensor& loss,
                          const Tensor& norm) {
  double sum = 0, squares = 0;
  for (int64_t row = 0; row < totals.rows(); ++row) {
    const double* shard = totals.data<double>() + row * totals.cols();
    sum += shard[0];
    for (int64_t i = 1; i <= num_squares; ++i) squares += shard[i];
  }
  *loss.data<double>() = sum;
  *norm.data<float>() = static_cast<float>(std::sqrt(squares));
}

}  // namespace depthroute::cpu
