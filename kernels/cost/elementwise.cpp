// Costs of ops that touch every element once, of sums, and of the optimizer.
#include "kernels/cost/traffic.h"
#include "kernels/cuda/work_split.h"
#include "kernels/op_table.h"

namespace depthroute::cost {

namespace {
constexpr int64_t kDouble = sizeof(double);
}

void zero(Stream, const Tensor& x) {
  if (x.bytes() > 0) Traffic("zero").write(x).library().add();
}

void fill(Stream, const Tensor& x, float) {
  if (x.numel() > 0) Traffic("fill").write(x).add();
}

// What crosses the bus to the host is waited for, if at all, once a step: not a kernel's time.
void copy(Stream, const Tensor& from, const Tensor& to) {
  if (from.bytes() == 0) return;
  Traffic traffic("copy");
  if (from.device != Device::cpu) traffic.read(from);
  if (to.device != Device::cpu) traffic.write(to);
  traffic.library().add();
}

void cast(Stream, const Tensor& from, const Tensor& to) {
  if (from.numel() > 0) Traffic("cast").read(from).write(to).add();
}

void add(Stream, const Tensor& x, const Tensor& y) {
  if (x.numel() > 0) Traffic("add").read(x).update(y).add();
}

void sum(Stream, const Tensor& x, const Tensor& total) { Traffic("sum").read(x).update(total).add(); }

int64_t reduction_workspace(Device, int64_t columns) { return cuda::reduction_floats(columns); }

void add_partial_sums(Stream, int64_t tokens, std::span<const PartialSums> sums) {
  const int64_t chunks = cuda::reduction_chunks(tokens);
  for (size_t first = 0; first < sums.size(); first += cuda::kMostPartialSums) {
    Traffic traffic("sums over tokens");
    for (const PartialSums& sum :
         sums.subspan(first).first(std::min<size_t>(cuda::kMostPartialSums, sums.size() - first)))
      traffic.read(chunks * sum.sum.bytes()).update(sum.sum);
    traffic.add();
  }
}

// As if the mask named every row.
void select_rows(Stream, const Tensor& mask, const Tensor& from, const Tensor& to) {
  if (to.numel() == 0 || from.pointer == to.pointer) return;
  Traffic("select_rows").read(mask).read(from).write(to).add();
}

int64_t column_sums_workspace(Device, int64_t columns) { return cuda::column_sums_floats(columns); }

void column_sums(Stream, const Tensor& x, const Tensor& mask, const Tensor& sums, const Tensor&) {
  if (x.numel() == 0) return;
  const int64_t chunks = cuda::column_chunks(x.rows(), x.cols());
  if (chunks == 1) return Traffic("column_sums").read(x).read(mask).update(sums).add();
  const int64_t partials = chunks * x.cols() * kDouble;
  Traffic("column_sums").read(x).read(mask).write(partials).add();
  Traffic("column_sums").read(partials).update(sums).add();
}

int64_t sum_of_squares_workspace(Device) { return cuda::squares_floats(); }

void sum_of_squares(Stream, const Tensor& x, const Tensor& total, const Tensor&) {
  const int64_t partials = cuda::squares_blocks(x.numel()) * kDouble;
  Traffic("sum of squares").read(x).write(partials).add();
  Traffic("sum of squares").read(partials).write(total).add();
}

void combine_shard_totals(Stream, const Tensor& totals, int64_t num_squares, const Tensor& loss,
                          const Tensor& norm) {
  const int64_t read = totals.rows() * (1 + num_squares) * kDouble;
  Traffic("combine totals").read(read).write(loss).write(norm).add();
}

void adamw(Stream, const AdamwStep&, const Tensor& norm, const Tensor& loss, const Tensor& grad,
           const Tensor& param, const Tensor& m, const Tensor& v, const Tensor& compute) {
  if (param.numel() == 0) return;
  Traffic("adamw").read(norm).read(loss).read(grad).update(param).update(m).update(v).write(compute).add();
}

}  // namespace depthroute::cost
