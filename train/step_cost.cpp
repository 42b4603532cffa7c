#include "train/step_cost.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "kernels/cuda/device.h"
#include "kernels/memory_table.h"
#include "train/step.h"

namespace depthroute {

namespace {

/// The kernels of one whole step of `micro_batches`.
cost::Log count_whole_step(TrainConfig config, int64_t micro_batches, const cost::Options& options) {
  config.train.global_batch = micro_batches * config.train.micro_batch;
  cost::Log log;
  const cost::Scope scope(log, options);
  TrainingStep step(config, Device::cuda);
  step.reserve_addresses();
  const BatchSource nothing = [](int64_t, int64_t, std::span<int32_t>, std::span<int32_t>) {};
  step.run(1, nothing);
  log.clear();
  step.run(2, nothing);
  return log;
}

/// `seconds_of_all` 0: without a share.
std::string row_text(const cost::CostSum& row, double seconds_of_all) {
  const std::string share =
      seconds_of_all > 0 ? fmt::format("{:>8.1f} %", 100 * row.seconds / seconds_of_all) : "";
  return fmt::format("  {:<32}{:>9}{:>10.2f}{:>10.2f}{:>11.2f}{}\n", row.name, row.launches, row.flops / 1e12,
                     static_cast<double>(row.bytes) / 1e9, 1e3 * row.seconds, share);
}

/// The longest first, kernels of less than half a per mille together.
std::string table_text(std::vector<cost::CostSum> rows, double seconds_of_all) {
  std::stable_sort(rows.begin(), rows.end(),
                   [](const auto& a, const auto& b) { return a.seconds > b.seconds; });
  std::string text;
  cost::CostSum rest{.name = "others"};
  for (const cost::CostSum& row : rows) {
    if (row.seconds < 5e-4 * seconds_of_all)
      rest += row;
    else
      text += row_text(row, seconds_of_all);
  }
  return rest.launches > 0 ? text + row_text(rest, seconds_of_all) : text;
}

struct Prediction {
  std::vector<cost::CostSum> micro_batch, update;
  double micro_batch_seconds, update_seconds, step_seconds;
  double overlap_seconds;  // by which a micro-batch is shorter than its kernels, one after another
};
Prediction predict(const TrainConfig& config, const cost::Card& card) {
  const StepCost counted = count_step(config);
  Prediction p;
  p.micro_batch = cost::sums_by_name(counted.micro_batch, &card);
  p.update = cost::sums_by_name(counted.update, &card);
  p.micro_batch_seconds = cost::seconds(counted.micro_batch, card);
  p.overlap_seconds = cost::total(p.micro_batch, "").seconds - p.micro_batch_seconds;
  p.update_seconds = cost::total(p.update, "").seconds;
  const auto micro_batches =
      static_cast<double>(config.train.global_batch) / static_cast<double>(config.train.micro_batch);
  p.step_seconds = micro_batches * p.micro_batch_seconds + p.update_seconds;
  return p;
}

/// The log without the kernels of `other`, each as often as it is there.
cost::Log without(const cost::Log& log, const cost::Log& other) {
  std::map<cost::KernelCost, int64_t> left;
  for (const cost::KernelCost& kernel : other) ++left[kernel];
  cost::Log rest;
  for (const cost::KernelCost& kernel : log)
    if (const auto at = left.find(kernel); at == left.end() || at->second-- <= 0) rest.push_back(kernel);
  return rest;
}

std::string routing_text(const TrainConfig& config, const cost::Card& card, const Prediction& p) {
  TrainConfig plain = config;
  plain.model.residual = {.variant = Variant::additive};
  const Prediction without_routing = predict(plain, card);
  return fmt::format(
      "  routing       {:.1f} ms per micro-batch against {:.1f} with plain residuals: {:+.2f} %\n",
      1e3 * p.micro_batch_seconds, 1e3 * without_routing.micro_batch_seconds,
      100 * (p.micro_batch_seconds / without_routing.micro_batch_seconds - 1));
}

/// Only a build with CUDA knows what its libraries need.
std::string memory_text(const TrainConfig& config, const cost::Card& card) {
  if (!cuda::built()) return "";
  const int64_t planned = TrainingStep(config, Device::cuda).arena().total_bytes();
  return fmt::format("  memory        {} planned, of {}\n", format_bytes(planned), format_bytes(card.memory));
}

}  // namespace

StepCost count_step(const TrainConfig& config, const cost::Options& options) {
  const cost::Log one = count_whole_step(config, 1, options), two = count_whole_step(config, 2, options);
  StepCost result;
  result.micro_batch = without(two, one);
  result.update = without(one, result.micro_batch);
  return result;
}

std::string describe_step_cost(const TrainConfig& config, const cost::Card& card) {
  const Prediction p = predict(config, card);
  std::string text = fmt::format(
      "predicted for {} ({}): arithmetic, not a measurement; rates in kernels/cost/cards.cpp\n"
      "  {:<32}{:>9}{:>10}{:>10}{:>11}{:>10}\n",
      card.name, card.description, "kernels of a micro-batch", "launches", "TFLOP", "GB", "ms", "share");
  text += table_text(p.micro_batch, p.micro_batch_seconds);
  if (config.train.overlap)
    text += row_text({.name = "beside others", .seconds = -p.overlap_seconds}, p.micro_batch_seconds);
  cost::CostSum whole = cost::total(p.micro_batch, "micro-batch");
  whole.seconds = p.micro_batch_seconds;
  text += row_text(whole, p.micro_batch_seconds);
  text += row_text(cost::total(p.update, "once per step"), 0);

  const auto tokens = static_cast<double>(config.train.global_batch * config.data.seq_len);
  const double rate =
      Qwen3::train_flops_per_token(config.model, config.data.seq_len) * tokens / p.step_seconds;
  text += fmt::format(
      "  step          {:.3f} s, {:.0f} tokens/s, {:.0f} TFLOP/s of the model: {:.1f} % of the data sheet's {:.0f}\n",
      p.step_seconds, tokens / p.step_seconds, rate / 1e12, 100 * rate / card.peak, card.peak / 1e12);
  text += routing_text(config, card, p);
  return text + memory_text(config, card);
}

}  // namespace depthroute
