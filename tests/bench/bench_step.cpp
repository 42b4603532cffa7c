// One whole training step on the CPU at a preset's shape: tokens per second, where the time goes, how near
// the matrix products come to the machine's own, and how near the planned memory comes to what the process
// really holds.
//   depthroute-bench-step [--config configs/attnres-100m.yaml] [--seq-len 512] [--micro-batch 4] [--steps 3]
#include <fmt/format.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <random>
#include <string>
#include <vector>

#include "configs/read.h"
#include "kernels/profile.h"
#include "tests/bench/bench_machine.h"
#include "train/dry_run.h"
#include "train/step.h"

namespace {

using namespace depthroute;
using Clock = std::chrono::steady_clock;

void random_tokens(int64_t vocab_size, std::span<int32_t> tokens, std::span<int32_t> targets) {
  static std::mt19937 random(1);
  std::uniform_int_distribution<int32_t> token(0, static_cast<int32_t>(vocab_size - 1));
  for (int32_t& t : tokens) t = token(random);
  for (int32_t& t : targets) t = token(random);
}

double peak_resident_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

void print_profile(std::vector<ProfileEntry> entries, double seconds, double peak_gflops) {
  std::sort(entries.begin(), entries.end(),
            [](const ProfileEntry& a, const ProfileEntry& b) { return a.seconds > b.seconds; });
  double in_ops = 0;
  fmt::print("\n{:<24}{:>10}{:>10}{:>8}\n", "op", "ms/step", "share", "calls");
  for (const ProfileEntry& entry : entries) {
    if (entry.flops > 0) continue;
    in_ops += entry.seconds;
    fmt::print("{:<24}{:>10.1f}{:>9.1f}%{:>8}\n", entry.name, 1e3 * entry.seconds,
               100 * entry.seconds / seconds, entry.calls);
  }
  fmt::print("{:<24}{:>10.1f}{:>9.1f}%\n", "outside ops", 1e3 * (seconds - in_ops),
             100 * (seconds - in_ops) / seconds);
  for (const ProfileEntry& entry : entries) {
    if (entry.flops == 0) continue;
    const double gflops = entry.flops / entry.seconds / 1e9;
    fmt::print(
        "\n{} (inside gemm and cross_entropy): {:.1f} % of the step at {:.1f} GFLOP/s = {:.1f} % of {:.1f} "
        "GFLOP/s for 2048^3\n",
        entry.name, 100 * entry.seconds / seconds, gflops, 100 * gflops / peak_gflops, peak_gflops);
  }
}

}  // namespace

int main(int argc, char** argv) {
  prepare_process(argv);
  std::string path = DEPTHROUTE_SOURCE_DIR "/configs/attnres-100m.yaml", variant;
  int64_t seq_len = 512, micro_batch = 4, steps = 3;
  CLI::App app("One training step on the CPU");
  app.add_option("--config", path, "training configuration");
  app.add_option("--variant", variant, "model.residual.variant instead of the configuration's");
  app.add_option("--seq-len", seq_len, "tokens per sequence");
  app.add_option("--micro-batch", micro_batch, "sequences per step");
  app.add_option("--steps", steps, "timed steps, after one to warm up");
  CLI11_PARSE(app, argc, argv);

  std::vector<std::string> overrides = {fmt::format("data.seq_len={}", seq_len),
                                        fmt::format("train.micro_batch={}", micro_batch),
                                        fmt::format("train.global_batch={}", micro_batch)};
  if (!variant.empty()) overrides.push_back("model.residual.variant=" + variant);
  const TrainConfig config = read_train_config(path, overrides);
  TrainingStep step(config, Device::cpu);
  step.allocate();
  initialize_parameters(step.layout(), config.seed, 0, step.model().parameters());
  const auto batch = [&](int64_t, int64_t, std::span<int32_t> tokens, std::span<int32_t> targets) {
    random_tokens(config.model.vocab_size, tokens, targets);
  };

  step.run(1, batch);
  double best = 1e30;
  std::vector<ProfileEntry> profile;  // of the best step
  for (int64_t t = 2; t < 2 + steps; ++t) {
    Profile::start();
    const Clock::time_point begin = Clock::now();
    step.run(t, batch);
    Profile::stop();
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    if (seconds < best) {
      best = seconds;
      profile = Profile::entries;
    }
    fmt::print("step {}: {:.3f} s\n", t, seconds);
  }
  const double resident = peak_resident_mib();  // before the machine is measured with memory of its own
  const bench::Machine machine = bench::measure_machine();

  const auto tokens = static_cast<double>(micro_batch * seq_len);
  const double flops = Qwen3::train_flops_per_token(config.model, seq_len);
  fmt::print("\n{} on {}: {} sequences of {} tokens\n", path, describe(Device::cpu), micro_batch, seq_len);
  fmt::print("{:.1f} tokens/s, {:.3f} s per step, {:.1f} GFLOP/s of the model's {:.3f} GFLOP per token\n",
             tokens / best, best, flops * tokens / best / 1e9, flops / 1e9);
  print_profile(profile, best, machine.gflops);
  const double planned = static_cast<double>(step.arena().total_bytes()) / (1 << 20);
  fmt::print("\npeak resident memory {:.1f} MiB, planned {:.1f} MiB, process {:.1f} MiB\n{}", resident,
             planned, resident - planned, describe_memory(step.arena()));
  return 0;
}
