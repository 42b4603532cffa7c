#include "train/communication_estimate.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "train/dry_run.h"
#include "train/step.h"

namespace depthroute {

namespace {

constexpr double kH100Peak = 989e12;  // dense bf16 FLOP/s, NVIDIA's data sheet (SXM)
constexpr double kUsualShare = 0.4;
constexpr double kLatency =
    30e-6;  // s per call, launches and hops: a guess that only matters for tiny models

/// Rank 0 of N that nobody started: knows sizes, refuses calls.
class PlannedCollectives : public Collectives {
 public:
  PlannedCollectives(int size, Device device, bool deterministic)
      : Collectives(0, size), device_(device), deterministic_(deterministic) {}
  std::string describe() const override { return fmt::format("{} ranks, planned", size()); }
  int64_t reduce_scatter_workspace(int64_t numel) const override {
    return device_ == Device::cpu || deterministic_ ? numel / size() * (size() - 1) : 0;
  }
  Ticket reduce_scatter(Stream, const Tensor&, const Tensor&) override { return refuse(); }
  Ticket all_gather(Stream, const Tensor&) override { return refuse(); }
  Ticket all_reduce(Stream, const Tensor&) override { return refuse(); }
  Ticket broadcast(Stream, const Tensor&, int) override { return refuse(); }
  void barrier() override { refuse(); }
  void wait(Stream, Ticket) override { refuse(); }
  void synchronize(Stream) override { refuse(); }
  Statistics statistics() const override { return {}; }

 private:
  static Ticket refuse() {
    DR_CHECK_MSG(false, "planned ranks cannot communicate");
    return 0;
  }
  Device device_;
  bool deterministic_;
};

std::string table_row(const CommunicationEstimate& e, double bandwidth) {
  const double hidden = e.seconds > 0 ? 100 * (1 - e.exposed_seconds / e.seconds) : 0;
  return fmt::format("  {:>10.0f} GB/s {:>14.1f} ms {:>12.0f} % {:>14.1f} ms {:>13.1f} %\n", bandwidth / 1e9,
                     1e3 * e.seconds, hidden, 1e3 * e.exposed_seconds, 100 * e.exposed_share());
}

}  // namespace

CommunicationEstimate estimate_communication(const TrainConfig& config, const ParameterLayout& layout,
                                             const Partition& partition, double bytes_per_matrix_element,
                                             double bandwidth, double rate, double latency) {
  const double n = partition.options().size, sent = (n - 1) / n;
  CommunicationEstimate e;
  const int64_t embedding_end = layout.all().front().numel();
  const bool copies = bytes_per_matrix_element < 4;
  int64_t layer_calls = 0, late_calls = 0, other_calls = 0;
  for (const Range& bucket : partition.buckets()) {
    const double size = static_cast<double>(bucket.size());
    const bool matrices = bucket.end <= layout.matrices_size();
    const bool layers = bucket.begin >= layout.layers_begin() && matrices;
    e.scatter_bytes += sent * 4 * size;
    if (layers) e.layer_scatter_bytes += sent * 4 * size;
    ++(layers ? layer_calls : other_calls);
    if (bucket.begin < layout.matrices_size() || !copies) {
      const double bytes = sent * bytes_per_matrix_element * size;
      const bool late = bucket.begin >= embedding_end && matrices;
      e.gather_bytes += bytes;
      if (late) e.late_gather_bytes += bytes;
      ++(late ? late_calls : other_calls);
    }
    if (copies && !matrices) {
      e.gather_bytes += sent * 4 * size;
      ++other_calls;
    }
  }
  e.calls = layer_calls + late_calls + other_calls;
  const double flops = Qwen3::train_flops_per_token(config.model, config.data.seq_len) *
                       static_cast<double>(config.train.global_batch * config.data.seq_len);
  e.compute_seconds = flops / (n * rate);
  const double micro_batch_seconds = flops / rate * static_cast<double>(config.train.micro_batch) /
                                     static_cast<double>(config.train.global_batch);
  const auto seconds = [&](double bytes, int64_t calls) {
    return bytes / bandwidth + static_cast<double>(calls) * latency;
  };
  const double layers = seconds(e.layer_scatter_bytes, layer_calls);
  const double late = seconds(e.late_gather_bytes, late_calls);
  const double rest =
      seconds(e.scatter_bytes - e.layer_scatter_bytes + e.gather_bytes - e.late_gather_bytes, other_calls);
  e.seconds = layers + late + rest;
  e.exposed_seconds = std::max(0.0, layers - 2.0 / 3.0 * micro_batch_seconds) + rest +
                      std::max(0.0, late - 1.0 / 3.0 * micro_batch_seconds);
  return e;
}

std::string describe_communication(const TrainConfig& config, const CommunicationAssumptions& assumptions) {
  check_ranks(config, assumptions.ranks);
  const Device device = resolve_device(config.device, Use::planning);
  PlannedCollectives collectives(assumptions.ranks, device, config.deterministic);
  const TrainingStep step(config, device, collectives);
  const double matrix_bytes = static_cast<double>(size_of(working_type(device, config.precision)));
  const double rate = assumptions.rate > 0 ? assumptions.rate : kUsualShare * kH100Peak;
  std::vector<double> bandwidths = {10e9, 25e9, 50e9, 150e9, 400e9};
  if (assumptions.bandwidth > 0) bandwidths = {assumptions.bandwidth};

  const auto estimate = [&](double bandwidth) {
    return estimate_communication(config, step.layout(), step.partition(), matrix_bytes, bandwidth, rate,
                                  kLatency);
  };
  const CommunicationEstimate any = estimate(bandwidths.front());
  const int64_t micro_batches = config.train.global_batch / config.train.micro_batch;
  std::string text = fmt::format("processes     {}: {} micro-batches of a step each{}, {} gradient buckets\n",
                                 assumptions.ranks, micro_batches / assumptions.ranks,
                                 micro_batches % assumptions.ranks ? " (some one more)" : "",
                                 step.partition().buckets().size());
  text += "memory of each process\n" + describe_memory(step);
  text += fmt::format(
      "sent per step and process: {:.1f} MB of gradients (reduce-scatter), {:.1f} MB of parameters (all-gather), "
      "in {} calls\n",
      any.scatter_bytes / 1e6, any.gather_bytes / 1e6, any.calls);
  text += fmt::format(
      "compute per step: {:.1f} ms at {:.0f} TFLOP/s per process ({})\n", 1e3 * any.compute_seconds,
      rate / 1e12,
      assumptions.rate > 0 ? "--rate" : "assumed: 40 % of an H100's dense bf16 peak; --rate sets it");
  text +=
      fmt::format("communication, {} (arithmetic, formula in train/communication_estimate.h):\n",
                  assumptions.bandwidth > 0 ? "--bandwidth" : "for some bandwidths; --bandwidth sets yours");
  text += fmt::format("  {:>15} {:>17} {:>14} {:>17} {:>15}\n", "bandwidth", "communication", "hidden",
                      "exposed", "of the step");
  for (const double bandwidth : bandwidths) text += table_row(estimate(bandwidth), bandwidth);
  return text;
}

}  // namespace depthroute
