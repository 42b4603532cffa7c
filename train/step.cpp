#include "train/step.h"

#include <algorithm>
#include <cmath>

#include "kernels/ops.h"
#include "train/schedule.h"

namespace depthroute {

namespace {

Recompute recompute_of(const std::string& name) {
  if (name == "norms") return Recompute::norms;
  return name == "layer" ? Recompute::layer : Recompute::none;
}

Qwen3Options model_options(const TrainConfig& config, Device device) {
  return {.micro_batch = config.train.micro_batch,
          .seq_len = config.data.seq_len,
          .training = true,
          .activations = working_type(device, config.precision),
          .recompute = recompute_of(config.train.recompute),
          .deterministic = config.deterministic};
}

}  // namespace

TrainingStep::TrainingStep(const TrainConfig& config, Device device)
    : config_(config),
      arena_(device),
      model_(config.model, model_options(config, device), arena_),
      optimizer_(config.optimizer, model_.layout(), arena_) {
  const Shape shape{config.train.micro_batch, config.data.seq_len};
  arena_.plan(Purpose::batch, &tokens_, shape, DType::i32);
  arena_.plan(Purpose::batch, &targets_, shape, DType::i32);
  arena_.plan(Purpose::batch, &total_, {1}, DType::f64);
  host_tokens_.resize(static_cast<size_t>(shape.numel()));
  host_targets_.resize(static_cast<size_t>(shape.numel()));
}

void TrainingStep::allocate() {
  stream_ = make_stream(arena_.device());
  arena_.allocate();
}

StepResult TrainingStep::run(int64_t t, const BatchSource& batch) {
  const int64_t sequences = config_.train.global_batch, size = config_.train.micro_batch;
  const auto num_targets = static_cast<double>(sequences * config_.data.seq_len);
  const auto grad_scale = static_cast<float>(1.0 / num_targets);
  ops::zero(stream_, model_.gradients());
  ops::zero(stream_, total_);
  for (int64_t first = 0; first < sequences; first += size) {
    const DeviceBatch micro = upload(first, std::min(size, sequences - first), batch);
    // A recording holds for one size of micro-batch.
    if (config_.train.cuda_graph && sequences % size == 0)
      replay_.run(stream_, [&] { micro_batch(micro, grad_scale); });
    else
      micro_batch(micro, grad_scale);
  }
  StepResult result;
  result.lr = learning_rate(config_.optimizer, config_.train.steps, t);
  optimizer_.measure(stream_, model_.gradients());
  optimizer_.update(stream_, t, result.lr, total_, model_.gradients(), model_.parameters(),
                    model_.compute_parameters());

  // The step's only wait: for the two numbers that are logged and decide about skipping.
  float norm = 0;
  ops::copy(stream_, optimizer_.norm(), host_tensor(&norm, {1}));
  result.loss = read_total() / num_targets;
  result.grad_norm = norm;
  result.applied = std::isfinite(result.loss) && std::isfinite(result.grad_norm);
  return result;
}

void TrainingStep::micro_batch(const DeviceBatch& batch, float grad_scale) {
  model_.forward(stream_, batch.tokens);
  model_.backward(stream_, batch.targets, grad_scale);
  ops::sum(stream_, model_.nll(), total_);
}

double TrainingStep::evaluate(int64_t first, int64_t count, const BatchSource& batch) {
  const DeviceBatch micro = upload(first, count, batch);
  ops::zero(stream_, total_);
  model_.forward(stream_, micro.tokens);
  model_.loss(stream_, micro.targets);
  ops::sum(stream_, model_.nll(), total_);
  return read_total();
}

TrainingStep::DeviceBatch TrainingStep::upload(int64_t first, int64_t count, const BatchSource& batch) {
  const int64_t seq_len = config_.data.seq_len;
  const auto size = static_cast<size_t>(count * seq_len);
  batch(first, count, std::span(host_tokens_).first(size), std::span(host_targets_).first(size));
  const DeviceBatch views{tokens_.slice(0, count), targets_.slice(0, count)};
  ops::copy(stream_, host_tensor(host_tokens_.data(), {count, seq_len}), views.tokens);
  ops::copy(stream_, host_tensor(host_targets_.data(), {count, seq_len}), views.targets);
  return views;
}

double TrainingStep::read_total() {
  double total = 0;
  ops::copy(stream_, total_, host_tensor(&total, {1}));
  synchronize(stream_);
  return total;
}

}  // namespace depthroute
