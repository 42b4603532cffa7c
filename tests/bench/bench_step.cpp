// Whole training steps: time, tokens per second, model-FLOPs utilisation, what routing costs over a plain
// Qwen3 in the same run, where the time goes, and how close the planned memory is to what is really used.
//   depthroute-bench-step [--config configs/attnres-100m.yaml] [--seq-len 512] [--micro-batch 4] [--steps 3]
//   depthroute-bench-step --device cuda --model 0.6b --variant additive,cumulative,kimi --seq-len 2048
//                         --micro-batch 4,8,16 --precision bf16 --steps 10 --rounds 3 [--peak-tflops 989]
//                         [--micro-batches-per-step 4]
// Several variants take turns round by round, each with all the memory to itself. --json gets a line for a variant
// after each of its rounds, from all rounds so far: of one name and micro_batch, the last line counts. What a
// killed run had measured is thus in the file.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "configs/base/error.h"
#include "configs/read.h"
#include "tests/bench/step_report.h"
#include "tests/bench/step_runs.h"
#include "tests/support/paths.h"

namespace depthroute::bench {
namespace {

struct Options {
  std::string config, model = "100m", device = "cpu", precision = "bf16", recompute = "none", json;
  std::vector<std::string> variants;
  std::vector<int64_t> micro_batches = {4};
  int64_t seq_len = 512, steps = 3, rounds = 1, per_step = 1;
  double peak_tflops = 0;
  bool cuda_graph = false, no_profile = false;
};

/// What shares are of, once it is known, and the file of results.
class Lines {
 public:
  Lines(const Options& options, const Target& target) : target_(target) {
    if (options.json.empty()) return;
    file_.open(options.json, std::ios::app);
    if (!file_) throw InputError("{}: cannot be written", options.json);
  }
  void set_peak(double flops, std::string name) {
    peak_flops_ = flops;
    peak_name_ = std::move(name);
  }
  double peak_flops() const { return peak_flops_; }
  const std::string& peak_name() const { return peak_name_; }
  void write(const StepRuns& runs, const std::vector<StepRuns>& all) {
    if (file_.is_open()) file_ << json_line(runs, all, target_, peak_flops_, peak_name_) << std::endl;
  }

 private:
  Target target_;
  std::ofstream file_;
  double peak_flops_ = 0;
  std::string peak_name_;
};

TrainConfig configuration(const Options& options, const std::string& variant, int64_t micro_batch) {
  const std::string folder = test_paths::source() + "/configs/";
  const std::string preset = options.model == "0.6b"   ? "qwen3-0.6b-cumulative.yaml"
                             : options.model == "demo" ? "demo.yaml"
                                                       : "attnres-100m.yaml";
  std::vector<std::string> overrides = {fmt::format("data.seq_len={}", options.seq_len),
                                        fmt::format("train.micro_batch={}", micro_batch),
                                        fmt::format("train.global_batch={}", micro_batch * options.per_step),
                                        fmt::format("train.cuda_graph={}", options.cuda_graph),
                                        "train.recompute=" + options.recompute,
                                        "precision=" + options.precision};
  if (!variant.empty()) overrides.push_back("model.residual.variant=" + variant);
  return read_train_config(options.config.empty() ? folder + preset : options.config, overrides);
}

std::vector<StepRuns> measure(const Options& options, const Target& target, Lines& lines) {
  std::vector<std::string> variants = options.variants;
  if (variants.empty()) variants = {""};
  StepBench bench(target);
  std::vector<StepRuns> all;
  for (const int64_t micro_batch : options.micro_batches) {
    std::vector<StepRuns> runs;
    std::vector<TrainConfig> configs;
    for (const std::string& variant : variants) {
      configs.push_back(configuration(options, variant, micro_batch));
      runs.push_back({.variant = to_string(configs.back().model.residual.variant),
                      .micro_batch = micro_batch,
                      .seq_len = options.seq_len,
                      .micro_batches = options.per_step});
    }
    try {
      for (int64_t round = 0; round < options.rounds; ++round)
        for (size_t i = 0; i < runs.size(); ++i) {
          bench.run_round(configs[i], options.steps, runs[i]);
          fmt::print("round {}, {}, {} sequences: {:.2f} ms\n", round + 1, runs[i].variant, micro_batch,
                     1e3 * runs[i].round_median(static_cast<size_t>(round)));
          std::fflush(stdout);
          lines.write(runs[i], runs);
        }
      if (target.cuda() && !options.no_profile)
        for (size_t i = 0; i < runs.size(); ++i) {
          bench.run_profile(configs[i], runs[i]);
          lines.write(runs[i], runs);
        }
    } catch (const SystemError& error) {  // too little memory: keep what did fit
      if (!target.cuda() || all.empty()) throw;
      fmt::print("{} sequences: not measured: {}\n", micro_batch, error.what());
      continue;
    }
    all.insert(all.end(), runs.begin(), runs.end());
  }
  return all;
}

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Training steps: time, utilisation, what routing costs, memory");
  app.add_option("--config", o.config, "training configuration instead of --model");
  app.add_option("--model", o.model, "preset")->check(CLI::IsMember({"0.6b", "100m", "demo"}));
  app.add_option("--variant", o.variants, "model.residual.variant, one or several")->delimiter(',');
  app.add_option("--seq-len", o.seq_len, "tokens per sequence")->check(CLI::PositiveNumber);
  app.add_option("--micro-batch", o.micro_batches, "sequences per step, one or several")
      ->delimiter(',')
      ->check(CLI::PositiveNumber);
  app.add_option(
         "--micro-batches-per-step", o.per_step,
         "micro-batches of a step: the update is once a step, so one micro-batch is charged all of it")
      ->check(CLI::PositiveNumber);
  app.add_option("--steps", o.steps, "timed steps of a round, after some to warm up")
      ->check(CLI::PositiveNumber);
  app.add_option("--rounds", o.rounds, "turns the variants take")->check(CLI::PositiveNumber);
  app.add_option("--device", o.device, "cpu, cuda or auto");
  app.add_option("--precision", o.precision, "cuda: bf16 or fp32");
  app.add_option("--recompute", o.recompute, "none, norms or layer");
  app.add_option("--peak-tflops", o.peak_tflops, "dense peak; without it the GEMM measured in this run");
  app.add_option("--json", o.json, "file for one JSON object a line");
  app.add_flag("--cuda-graph", o.cuda_graph, "replay a recorded step");
  app.add_flag("--no-profile", o.no_profile, "no shares by op");
  CLI11_PARSE(app, argc, argv);

  const Target target = make_target(o.device, o.precision);
  Lines lines(o, target);
  Machine machine;
  const auto know_machine = [&] {
    machine = measure_machine(target);
    lines.set_peak(machine.gflops * 1e9, "measured: " + machine.gemm);
  };
  if (o.peak_tflops > 0) {
    machine = {o.peak_tflops * 1e3, 0, "given", ""};
    lines.set_peak(o.peak_tflops * 1e12, "given");
  } else if (target.cuda()) {
    know_machine();
  }
  const std::vector<StepRuns> all = measure(o, target, lines);
  if (lines.peak_flops() == 0) {  // on the CPU last, so that its memory does not count as the step's
    know_machine();
    for (const StepRuns& runs : all) lines.write(runs, all);
  }
  for (const StepRuns& runs : all) print_runs(runs, target, machine, lines.peak_flops());
  print_table(all, lines.peak_flops(), lines.peak_name());
  return kExitOk;
}

}  // namespace
}  // namespace depthroute::bench

int main(int argc, char** argv) try {
  depthroute::prepare_process(argv);
  return depthroute::bench::main(argc, argv);
} catch (const depthroute::InputError& error) {
  fmt::print(stderr, "depthroute-bench-step: {}\n", error.what());
  return depthroute::kExitBadInput;
} catch (const std::exception& error) {
  fmt::print(stderr, "depthroute-bench-step: {}\n", error.what());
  return depthroute::kExitFailure;
}
