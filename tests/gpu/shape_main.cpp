// depthroute-check-shape: one training pass at a production shape, held against the CPU or against itself.
//   depthroute-check-shape cpu    CONFIG [--set key=value]... [--device cuda]
//   depthroute-check-shape singly CONFIG [--set key=value]... [--device cuda] [--sequences 16]
// `cpu`: one sequence on the device against float32 on the CPU. `singly`: one micro-batch of all sequences against
// micro-batches of one. Prints a line per figure, NAME <tab> FIGURE <tab> BOUND <tab> WHERE, and exits with 0 if all
// are within their bounds, 1 if not.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <exception>
#include <string>
#include <vector>

#include "configs/base/error.h"
#include "configs/read.h"
#include "tests/gpu/shape_check.h"

namespace depthroute {
namespace {

int main(int argc, char** argv) {
  std::string config, device = "cuda";
  std::vector<std::string> overrides;
  int64_t sequences = 16;
  CLI::App app("One training pass at a production shape");
  app.require_subcommand(1);
  CLI::App* cpu = app.add_subcommand("cpu", "one sequence against float32 on the CPU");
  CLI::App* singly = app.add_subcommand("singly", "one micro-batch against micro-batches of one sequence");
  singly->add_option("--sequences", sequences)->check(CLI::PositiveNumber);
  for (CLI::App* command : {cpu, singly}) {
    command->add_option("config", config, "training configuration")->required();
    command->add_option("--set", overrides, "key=value, changes the configuration")->allow_extra_args(false);
    command->add_option("--device", device, "cpu, cuda or auto");
  }
  CLI11_PARSE(app, argc, argv);

  const Device chosen = resolve_device(parse_or_fail<DeviceChoice>("--device", device));
  const ShapeCheck check(read_train_config(config, overrides), chosen, cpu->parsed() ? 1 : sequences);
  bool passed = true;
  for (const ShapeFigure& figure : cpu->parsed() ? check.against_cpu() : check.against_single_sequences()) {
    fmt::print("{}\t{:.3g}\t{:g}\t{}\n", figure.name, figure.figure, figure.bound, figure.where);
    passed = passed && figure.passed();
  }
  return passed ? kExitOk : kExitFailure;
}

}  // namespace
}  // namespace depthroute

int main(int argc, char** argv) try {
  depthroute::prepare_process(argv);
  return depthroute::main(argc, argv);
} catch (const depthroute::InputError& error) {
  fmt::print(stderr, "depthroute-check-shape: {}\n", error.what());
  return depthroute::kExitBadInput;
} catch (const std::exception& error) {
  fmt::print(stderr, "depthroute-check-shape: {}\n", error.what());
  return depthroute::kExitFailure;
}
