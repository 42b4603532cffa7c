// depthroute-train: trains, or resumes training of, the model a configuration describes.
#include <fmt/format.h>

#include "configs/base/error.h"
#include "configs/cli.h"
#include "configs/read.h"
#include "kernels/device.h"
#include "train/dry_run.h"
#include "train/start.h"
#include "train/trainer.h"

namespace {

int run(const depthroute::CommandLine& line) {
  depthroute::TrainConfig config = depthroute::read_train_config(line.config_path, line.overrides);
  if (line.print_config) {
    fmt::print("{}", depthroute::to_yaml(config));
    return depthroute::kExitOk;
  }
  if (!line.dry_run) return depthroute::train(config);
  config.model = depthroute::fresh_start(config).model;
  fmt::print("{}", depthroute::dry_run_report(config));
  return depthroute::kExitOk;
}

}  // namespace

int main(int argc, char** argv) {
  const auto body = [argv](const depthroute::CommandLine& line) {
    depthroute::prepare_process(argv);  // may start the program again, with better settings
    return run(line);
  };
  return depthroute::run_program(argc, argv, "Trains a Qwen3 decoder with Block Attention Residuals.",
                                 depthroute::train_reference(), body);
}
