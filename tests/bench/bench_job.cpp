// Training as a job: tokens per second, what communication costs and how much of it training hides, and what
// saving a checkpoint during training costs. Rank 0 prints one JSON line.
//   mpirun -n 2 depthroute-bench-job [--micro-batches 1] [--steps 10] [--bucket-mib 4]
//   mpirun -n 2 depthroute-bench-job --save FOLDER [--rounds 5] [--steps 40]
// Each rank computes the same number of micro-batches, however many ranks there are (weak scaling).
// scaling.sh runs 1, 2 and 4 ranks in turns and compares.
#include <fmt/format.h>
#include <omp.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "configs/base/error.h"
#include "configs/read.h"
#include "kernels/collectives/world.h"
#include "kernels/device.h"
#include "tests/bench/job_runs.h"

namespace depthroute::bench {
namespace {

/// 10 million parameters, nearly all of them in layers.
constexpr const char* kShape = R"(
output: .
device: cpu
model:
  vocab_size: 256
  hidden_size: 320
  num_layers: 8
  num_heads: 10
  num_kv_heads: 2
  head_dim: 32
  intermediate_size: 1024
  residual: {variant: cumulative, num_blocks: 4}
data: {train: [none], seq_len: 256}
train: {steps: 1000000000, global_batch: 2, micro_batch: 2}
checkpoint: {keep: 1}
)";

struct Options {
  std::string config, save;
  std::vector<std::string> overrides;
  int64_t micro_batches = 1, steps = 10, warm_up = 2, rounds = 5, bucket_mib = 4;
  bool deterministic = false;
};

TrainConfig configuration(const Options& options, int ranks) {
  std::vector<std::string> overrides = {fmt::format("distributed.bucket_mib={}", options.bucket_mib),
                                        fmt::format("deterministic={}", options.deterministic)};
  overrides.insert(overrides.end(), options.overrides.begin(), options.overrides.end());
  TrainConfig config = options.config.empty() ? parse_train_config(kShape, "bench-job", overrides)
                                              : read_train_config(options.config, overrides);
  config.train.global_batch = config.train.micro_batch * options.micro_batches * ranks;
  if (!options.save.empty()) config.output = options.save;
  check_ranks(config, ranks);
  return config;
}

nlohmann::ordered_json describe_job(const World& world, const TrainConfig& config, const JobBench& bench) {
  return {{"processes", world.size()},
          {"threads", omp_get_max_threads()},
          {"device", to_string(bench.step().stream().device)},
          {"collectives", bench.collectives().describe()},
          {"parameters", bench.step().layout().num_parameters()},
          {"tokens_per_step", config.train.global_batch * config.data.seq_len},
          {"deterministic", config.deterministic},
          {"buckets", bench.step().partition().buckets().size()}};
}

void report(nlohmann::ordered_json line, const Communication& runs) {
  const double step = median_of(runs.seconds);
  double total = 0;
  for (const double seconds : runs.seconds) total += seconds;
  const double mean = total / static_cast<double>(runs.seconds.size());
  line["tokens_per_s"] = line["tokens_per_step"].get<double>() / step;
  line["step_ms"] = 1e3 * step;
  line["busy_ms"] = 1e3 * runs.busy;
  line["exposed_ms"] = 1e3 * runs.exposed;
  line["hidden"] = runs.busy > 0 ? 1 - runs.exposed / runs.busy : 0;
  // Shares of the mean step, because busy and exposed are means.
  line["busy_share"] = runs.busy / mean;
  line["exposed_share"] = runs.exposed / mean;
  line["bytes"] = static_cast<int64_t>(runs.bytes);
  fmt::print("{}\n", line.dump());
}

/// Compares a stretch with a checkpoint with the mean of those before and after it, so that what the machine
/// does from minute to minute drops out; `noise` is how much these two differ.
void report(nlohmann::ordered_json line, const Stalls& stalls) {
  std::vector<double> plain, saving, ratios, noise, lost, start, commit, steps;
  int64_t outlasted = 0;
  for (const Stretch& stretch : stalls.without)
    plain.insert(plain.end(), stretch.plain.begin(), stretch.plain.end());
  for (size_t i = 0; i < stalls.with.size(); ++i) {
    const Stretch& with = stalls.with[i];
    const double before = stalls.without[i].total, after = stalls.without[i + 1].total;
    const double base = (before + after) / 2;
    ratios.push_back(with.total / base);
    noise.push_back(std::abs(before - after) / base);
    lost.push_back(with.total - base);
    start.push_back(with.start);
    commit.push_back(with.commit);
    steps.push_back(static_cast<double>(with.saving.size()));
    saving.insert(saving.end(), with.saving.begin(), with.saving.end());
    outlasted += with.outlasted ? 1 : 0;
  }
  const double step = median_of(plain);
  line["stretch_steps"] = stalls.without.front().plain.size();
  line["step_ms"] = 1e3 * step;
  line["step_saving_ms"] = 1e3 * median_of(saving);
  line["ratio_step"] = median_of(saving) / step;
  line["ratio_stretch"] = median_of(ratios);
  line["ratios"] = ratios;
  line["noise"] = median_of(noise);
  line["lost_ms"] = 1e3 * median_of(lost);
  line["lost_steps"] = median_of(lost) / step;
  line["start_ms"] = 1e3 * median_of(start);
  line["commit_ms"] = 1e3 * median_of(commit);
  line["steps_saving"] = median_of(steps);
  line["outlasted"] = outlasted;
  line["synchronous_ms"] = 1e3 * median_of(stalls.synchronous);
  line["synchronous_steps"] = median_of(stalls.synchronous) / step;
  fmt::print("{}\n", line.dump());
}

int run(const Options& options, World& world) {
  TrainConfig config;
  Device device = Device::cpu;
  world.together([&] {
    config = configuration(options, world.size());
    device = resolve_device(config.device);
    select_device(device, world.local_rank());
  });
  world.set_timeout(static_cast<double>(config.distributed.timeout));
  make_independent_of_threads(config.deterministic);
  JobBench bench(world, config, device);
  nlohmann::ordered_json line = describe_job(world, config, bench);
  const Communication runs = bench.run(options.warm_up, options.save.empty() ? options.steps : 1);
  if (options.save.empty()) {
    if (world.is_rank_0()) report(line, runs);
    return kExitOk;
  }
  const Stalls stalls = bench.run_saving(options.rounds, options.steps);
  line["checkpoint_mib"] = static_cast<double>(3 * 4 * bench.step().layout().num_parameters()) / (1 << 20);
  if (world.is_rank_0()) report(line, stalls);
  return kExitOk;
}

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Training steps of a job: speed, communication, what saving costs");
  app.add_option("--config", o.config, "training configuration; default: 10 million parameters on the CPU");
  app.add_option("--set", o.overrides, "key.path=value of the configuration, any number")
      ->allow_extra_args(false);
  app.add_option("--micro-batches", o.micro_batches, "micro-batches per rank and step")
      ->check(CLI::PositiveNumber);
  app.add_option("--steps", o.steps, "timed steps; with --save, per stretch")->check(CLI::PositiveNumber);
  app.add_option("--warmup", o.warm_up, "untimed steps before")->check(CLI::NonNegativeNumber);
  app.add_option("--bucket-mib", o.bucket_mib, "size of a gradient bucket")->check(CLI::PositiveNumber);
  app.add_flag("--deterministic", o.deterministic, "the same bits on any number of ranks");
  app.add_option("--save", o.save,
                 "measure saving checkpoints into this folder's checkpoints/, which is replaced")
      ->check(CLI::ExistingDirectory);
  app.add_option("--rounds", o.rounds, "with --save: number of checkpoints")->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  prepare_process(argv);  // may restart the program
  return run_in_world([&](World& world) { return run(o, world); });
}

}  // namespace
}  // namespace depthroute::bench

int main(int argc, char** argv) try {
  return depthroute::bench::main(argc, argv);
} catch (const depthroute::InputError& error) {
  fmt::print(stderr, "depthroute-bench-job: {}\n", error.what());
  return depthroute::kExitBadInput;
} catch (const std::exception& error) {
  fmt::print(stderr, "depthroute-bench-job: {}\n", error.what());
  return depthroute::kExitFailure;
}
