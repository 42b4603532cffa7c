// Means over the calibration data: sums on the device in float64, divided on the host.
#include <algorithm>
#include <numeric>

#include "configs/base/check.h"
#include "configs/base/error.h"
#include "eval/measure/contents.h"
#include "kernels/host_view.h"
#include "kernels/ops/ops.h"

namespace depthroute {

void Contents::plan_means(Arena& arena) {
  const int64_t b = model_.options().micro_batch, t = seq_len();
  const DType act = model_.options().activations;
  const auto want = [&](const std::set<int>& indices, bool of_weights, bool by_position) {
    for (const int index : indices) means_.emplace(MeanKey{of_weights, by_position, index}, Mean{});
  };
  want(needs_.means, false, false);
  want(needs_.position_means, false, true);
  want(needs_.mean_weights, true, false);
  want(needs_.position_weights, true, true);
  int64_t floats = 1, largest = 1;
  for (auto& [key, mean] : means_) {
    const int64_t rows = key.by_position ? t : 1;
    const int64_t columns =
        key.of_weights ? model_.plan().sites[key.index].num_sources() : model_.config().hidden_size;
    arena.plan(Purpose::workspace, &mean.sums, {rows * columns}, DType::f64);
    arena.plan(key.of_weights ? Purpose::routing : Purpose::states, &mean.value, {rows, columns},
               key.of_weights ? DType::f32 : act);
    largest = std::max(largest, rows * columns);
    for (int64_t length = 1; length <= rows; ++length)
      floats = std::max(floats, ops::column_sums_workspace(arena.device(), length * columns));
  }
  arena.plan(Purpose::workspace, &workspace_, {floats});
  if (act != DType::f32) arena.plan(Purpose::workspace, &staging_, {largest});
  arena.plan(Purpose::batch, &tokens_, {b, t}, DType::i32);
  arena.plan(Purpose::batch, &counted_, {b * t}, DType::i32);
}

const Tensor& Contents::mean_of(const MeanKey& key) const {
  DR_CHECK_MSG(!counts_.empty(), "Contents: calibrate() comes before resolve()");
  return means_.at(key).value;
}

void Contents::accumulate(Stream stream, const CalibrationBatch& batch, const MeanKey& key,
                          const Mean& mean) {
  const Tensor x = key.of_weights ? model_.trace(key.index).weights : model_.state(key.index);
  if (!key.by_position) {
    ops::column_sums(stream, x, counted_.slice(0, x.rows()), mean.sums, workspace_);
    return;
  }
  // A sequence adds one row of length x C values to as many of the T x C sums.
  for (size_t i = 0; i < batch.lengths.size(); ++i) {
    const int64_t first = static_cast<int64_t>(i) * seq_len(), length = batch.lengths[i];
    const int64_t columns = length * x.cols();
    ops::column_sums(stream, x.slice(first, first + length).reshape({1, columns}), {},
                     mean.sums.slice(0, columns), workspace_);
  }
}

void Contents::run_calibration(Stream stream, const CalibrationBatch& batch) {
  const auto sequences = static_cast<int64_t>(batch.lengths.size());
  const int64_t t = seq_len();
  DR_CHECK(sequences >= 1 && sequences <= model_.options().micro_batch);
  DR_CHECK(static_cast<int64_t>(batch.tokens.size()) == sequences * t);
  std::vector<int32_t> counted(batch.tokens.size(), 0);
  for (int64_t i = 0; i < sequences; ++i) {
    DR_CHECK(batch.lengths[i] >= 1 && batch.lengths[i] <= t);
    std::fill_n(counted.begin() + i * t, batch.lengths[i], 1);
    for (int64_t position = 0; position < batch.lengths[i]; ++position) ++counts_[position];
  }
  ops::copy(stream, host_tensor(batch.tokens.data(), {sequences, t}), tokens_.slice(0, sequences));
  ops::copy(stream, host_tensor(counted.data(), {sequences * t}), counted_.slice(0, sequences * t));
  model_.forward(stream, tokens_.slice(0, sequences));
  for (const auto& [key, mean] : means_) accumulate(stream, batch, key, mean);
  synchronize(stream);
}

void Contents::finish_mean(Stream stream, const MeanKey& key, const Mean& mean) {
  const HostView view(stream, mean.sums);
  const double* sums = view.tensor().data<double>();
  const int64_t rows = mean.value.rows(), columns = mean.value.cols();
  const int64_t total = std::accumulate(counts_.begin(), counts_.end(), int64_t{0});
  std::vector<double> over_all(static_cast<size_t>(columns), 0.0);
  for (int64_t i = 0; i < rows * columns; ++i) over_all[i % columns] += sums[i];
  std::vector<float> values(static_cast<size_t>(rows * columns));
  for (int64_t i = 0; i < rows * columns; ++i) {
    const int64_t count = key.by_position ? counts_[i / columns] : total;
    values[i] = static_cast<float>(count > 0 ? sums[i] / static_cast<double>(count)
                                             : over_all[i % columns] / static_cast<double>(total));
  }
  const Tensor host = host_tensor(values.data(), mean.value.shape);
  if (mean.value.dtype == DType::f32) {
    ops::copy(stream, host, mean.value);
  } else {
    const Tensor staging = staging_.slice(0, mean.value.numel()).reshape(mean.value.shape);
    ops::copy(stream, host, staging);
    ops::cast(stream, staging, mean.value);
  }
  synchronize(stream);
}

void Contents::calibrate(Stream stream, const CalibrationBatches& next) {
  counts_.assign(static_cast<size_t>(seq_len()), 0);
  for (const auto& [key, mean] : means_) ops::zero(stream, mean.sums);
  CalibrationBatch batch;
  while (next(batch)) run_calibration(stream, batch);
  if (counts_[0] == 0)
    throw ConfigError(
        "the calibration data hold no sequence; set splits.calibration and "
        "splits.calibration_sequences, or remove `mean` and `freeze`");
  for (const auto& [key, mean] : means_) finish_mean(stream, key, mean);
}

}  // namespace depthroute
