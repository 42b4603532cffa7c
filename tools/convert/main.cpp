// depthroute-convert: model folders between programs.
//   depthroute-convert import Qwen3-0.6B --output models/qwen3
//   depthroute-convert export runs/demo --output hf [--format depthroute|transformers|open-attnres|fla] [--dtype bf16]
//   depthroute-convert wrap models/qwen3 --output models/wrapped --recency-bias 30 --num-blocks 8
//   depthroute-convert inspect runs/demo [--json]
//   depthroute-convert diff one other
// A folder is written beside its place and appears whole or not at all (model_output.h).
#include <CLI/CLI.hpp>
#include <iostream>

#include "configs/base/error.h"
#include "configs/cli.h"
#include "configs/failure.h"
#include "configs/standard_streams.h"
#include "tools/convert/convert.h"
#include "tools/convert/inspect.h"

namespace depthroute {
namespace {

constexpr const char* kProgram = "depthroute-convert";
constexpr int kDifferent = 1;  // of `diff`

struct Options {
  ConvertOptions convert;
  WrapOptions wrap;
  std::string max_shard_size = "5GB", dtype = "stored", other;
  bool json = false, weights = false;
};

void add_output_options(CLI::App& command, Options& options) {
  ConvertOptions& convert = options.convert;
  command.add_option("--output", convert.output.path, "folder to write")->required();
  command.add_flag("--overwrite", convert.output.overwrite,
                   "replace a model folder that is there; one that holds other files is refused");
  command
      .add_option("--dtype", options.dtype,
                  "how tensors are stored: stored (as they are; F16 as F32), f32, bf16")
      ->check(CLI::IsMember({"stored", "f32", "bf16"}))
      ->capture_default_str();
  command
      .add_option("--max-shard-size", options.max_shard_size,
                  "largest file of tensors, as 5GB or 500MiB; more become several files and their index")
      ->capture_default_str();
  command.add_option("--max-position-embeddings", convert.max_positions,
                     "the length that config.json states (default: what the source states)");
}

int dispatch(const CLI::App& app, Options& options) {
  ConvertOptions& convert = options.convert;
  convert.dtype = options.dtype == "f32" ? Dtype::f32 : options.dtype == "bf16" ? Dtype::bf16 : Dtype::stored;
  convert.output.max_shard_bytes = parse_size("--max-shard-size", options.max_shard_size);
  if (convert.max_positions && (*convert.max_positions < 1 || *convert.max_positions > INT32_MAX))
    throw ConfigError("--max-position-embeddings: {} is outside 1 ... {}", *convert.max_positions, INT32_MAX);
  if (app.got_subcommand("import")) print_result(import_model(convert));
  if (app.got_subcommand("export")) print_result(export_model(convert));
  if (app.got_subcommand("wrap")) print_result(wrap_model(convert, options.wrap));
  if (app.got_subcommand("inspect")) print_result(inspect_model(convert.source, options.json));
  if (!app.got_subcommand("diff")) return kExitOk;
  const Difference difference = diff_models(convert.source, options.other, options.weights);
  print_result(difference.text);
  return difference.equal ? kExitOk : kDifferent;
}

int run(int argc, char** argv) {
  secure_standard_streams();
  Options options;
  CLI::App app(
      "Model folders between depthroute, transformers, the open AttnRes code and flash-linear-attention.",
      kProgram);
  app.set_version_flag("--version", fmt::format("{} ({})", program_version(), program_commit()));
  app.require_subcommand(1);
  const auto add = [&](const char* name, const char* what) {
    CLI::App* command = app.add_subcommand(name, what);
    command->add_option("MODEL", options.convert.source, "a model folder, a checkpoint or a run's folder")
        ->required();
    return command;
  };
  add_output_options(*add("import", "Another program's model as a folder of ours, its companions along"),
                     options);
  CLI::App* const export_ = add("export", "A model as a folder that another program loads");
  add_output_options(*export_, options);
  export_->add_option("--format", options.convert.format,
                      "transformers (plain models), depthroute (every model, with a modelling file for "
                      "transformers), open-attnres, fla (default: transformers or depthroute)");
  CLI::App* const wrap =
      add("wrap", "A plain model under a fixed recency schedule, as eval's model.wrap has it");
  add_output_options(*wrap, options);
  wrap->add_option("--recency-bias", options.wrap.recency_bias, "one value, or one per site (a,b,c)")
      ->delimiter(',')
      ->capture_default_str();
  CLI::Option* const blocks =
      wrap->add_option("--num-blocks", options.wrap.num_blocks, "number of blocks")->capture_default_str();
  wrap->add_option("--sublayers-per-block", options.wrap.sublayers_per_block, "instead of --num-blocks")
      ->excludes(blocks)
      ->check(CLI::PositiveNumber);
  add("inspect", "What a folder is, and which programs can take it")
      ->add_flag("--json", options.json, "as one JSON object");
  CLI::App* const diff =
      add("diff", "What two models differ in; exit status 0: equal, 1: different, 2: bad input");
  diff->add_option("OTHER", options.other, "the other model")->required();
  diff->add_flag("--weights", options.weights, "values alone, without config.json and dtypes");
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    app.exit(help);
    return std::cout.flush() ? kExitOk : kExitFailure;
  } catch (const CLI::ParseError& error) {
    throw ConfigError("{}; see --help", error.what());
  }
  return dispatch(app, options);
}

}  // namespace
}  // namespace depthroute

int main(int argc, char** argv) {
  try {
    return depthroute::run(argc, argv);
  } catch (...) {
    const depthroute::Failure failure = depthroute::current_failure();
    depthroute::report(depthroute::kProgram, failure);
    return failure.status;
  }
}
