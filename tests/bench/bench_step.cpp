// Whole training steps: time, tokens per second, model-FLOPs utilisation, what routing costs over a plain
// Qwen3 in the same run, where the time goes, and how close the planned memory is to what is really used.
//   depthroute-bench-step [--config configs/attnres-100m.yaml] [--seq-len 512] [--micro-batch 4] [--steps 3]
//   depthroute-bench-step --device cuda --model 0.6b --variant additive,cumulative,kimi --seq-len 2048
//                         --micro-batch 4,8,16 --precision bf16 --steps 10 --rounds 3 [--peak-tflops 989]
// Several variants take turns round by round, each with all the memory to itself.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <fstream>
#include <string>
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
  int64_t seq_len = 512, steps = 3, rounds = 1;
  double peak_tflops = 0;
  bool cuda_graph = false, no_profile = false;
};

TrainConfig configuration(const Options& options, const std::string& variant, int64_t micro_batch) {
  const std::string folder = test_paths::source() + "/configs/";
  const std::string preset = options.model == "0.6b"   ? "qwen3-0.6b-cumulative.yaml"
                             : options.model == "demo" ? "demo.yaml"
                                                       : "attnres-100m.yaml";
  std::vector<std::string> overrides = {fmt::format("data.seq_len={}", options.seq_len),
                                        fmt::format("train.micro_batch={}", micro_batch),
                                        fmt::format("train.global_batch={}", micro_batch),
                                        fmt::format("train.cuda_graph={}", options.cuda_graph),
                                        "train.recompute=" + options.recompute,
                                        "precision=" + options.precision};
  if (!variant.empty()) overrides.push_back("model.residual.variant=" + variant);
  return read_train_config(options.config.empty() ? folder + preset : options.config, overrides);
}

std::vector<StepRuns> measure(const Options& options, const Target& target) {
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
                      .seq_len = options.seq_len});
    }
    try {
      for (int64_t round = 0; round < options.rounds; ++round)
        for (size_t i = 0; i < runs.size(); ++i) {
          bench.run_round(configs[i], options.steps, runs[i]);
          fmt::print("round {}, {}, {} sequences: {:.2f} ms\n", round + 1, runs[i].variant, micro_batch,
                     1e3 * runs[i].round_median(static_cast<size_t>(round)));
          std::fflush(stdout);
        }
      if (target.cuda() && !options.no_profile)
        for (size_t i = 0; i < runs.size(); ++i) bench.run_profile(configs[i], runs[i]);
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
  std::ofstream json;
  if (!o.json.empty()) json.open(o.json, std::ios::app);
  if (!o.json.empty() && !json) throw InputError("{}: cannot be written", o.json);

  const std::vector<StepRuns> all = measure(o, target);
  // Last, so that its memory does not count as the step's.
  const Machine machine = measure_machine(target);
  const double peak = o.peak_tflops > 0 ? o.peak_tflops * 1e12 : machine.gflops * 1e9;
  const std::string peak_name = o.peak_tflops > 0 ? "given" : "measured: " + machine.gemm;
  for (const StepRuns& runs : all) print_runs(runs, target, machine, peak);
  print_table(all, peak, peak_name);
  for (const StepRuns& runs : all)
    if (json.is_open()) json << json_line(runs, all, target, peak, peak_name) << '\n';
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
