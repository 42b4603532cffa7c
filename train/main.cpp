// depthroute-train: trains, or resumes training of, the model a configuration describes.
#include "configs/base/error.h"
#include "configs/cli.h"
#include "configs/read.h"
#include "configs/standard_streams.h"
#include "kernels/collectives/world.h"
#include "kernels/device.h"
#include "train/communication_estimate.h"
#include "train/dry_run.h"
#include "train/model/weights.h"
#include "train/signals.h"
#include "train/start.h"
#include "train/step_cost.h"
#include "train/trainer.h"

namespace {

constexpr int64_t kMostProcesses = 1'000'000, kMostRate = 1'000'000;

int run(const depthroute::CommandLine& line, depthroute::World& world) {
  depthroute::TrainConfig config;
  world.together([&] { config = depthroute::read_train_config(line.config_path, line.overrides); });
  world.set_timeout(static_cast<double>(config.distributed.timeout));
  if (line.print_config) {
    if (world.is_rank_0()) depthroute::print_result(depthroute::to_yaml(config));
    return depthroute::kExitOk;
  }
  if (!line.dry_run) {
    world.together([&] {
      for (const auto& [name, value] : line.options)
        throw depthroute::ConfigError(
            "{}: only with --dry-run{}", name,
            name == "--card" ? "" : ": to train with several processes, start them with mpirun or srun");
    });
    return depthroute::train(world, config);
  }
  if (!world.is_rank_0()) return depthroute::kExitOk;
  const auto given = [&](const char* option) { return line.options.count(option) > 0; };
  const depthroute::cost::Card* const card =
      given("--card") ? &depthroute::cost::find_card(line.options.at("--card")) : nullptr;
  const depthroute::Start start = depthroute::fresh_start(config);
  config.model = start.model;
  if (start.model_folder)
    depthroute::check_parameters(
        *start.model_folder,
        depthroute::ParameterLayout(start.model, depthroute::make_depth_plan(start.model)));
  depthroute::print_result(depthroute::dry_run_report(config));
  if (card) depthroute::print_result(depthroute::describe_step_cost(config, *card));
  depthroute::CommunicationAssumptions assumptions = {.ranks = world.size()};
  if (given("--processes"))
    assumptions.ranks = static_cast<int>(depthroute::option_number(line, "--processes", 1, kMostProcesses));
  if (given("--bandwidth"))
    assumptions.bandwidth =
        1e9 * static_cast<double>(depthroute::option_number(line, "--bandwidth", 1, kMostRate));
  if (given("--rate"))
    assumptions.rate = 1e12 * static_cast<double>(depthroute::option_number(line, "--rate", 1, kMostRate));
  if (assumptions.ranks > 1 || given("--processes") || given("--bandwidth") || given("--rate"))
    depthroute::print_result(depthroute::describe_communication(config, assumptions));
  return depthroute::kExitOk;
}

}  // namespace

int main(int argc, char** argv) {
  depthroute::end_on_stop_signals();
  const auto body = [argv](const depthroute::CommandLine& line) {
    depthroute::prepare_process(argv);  // may start the program again, with better settings
    return depthroute::run_in_world([&](depthroute::World& world) { return run(line, world); });
  };
  return depthroute::run_program(
      argc, argv, "Trains a Qwen3 decoder with Block Attention Residuals.", depthroute::train_reference(),
      {{"--processes", "N", "with --dry-run: what N processes would need and exchange"},
       {"--bandwidth", "GB/s", "with --processes: what a process can send"},
       {"--rate", "TFLOP/s", "with --processes: matrix products of a process"},
       {"--card", "h100|h200|a100", "with --dry-run: predict a step's kernels on this GPU"}},
      body);
}
