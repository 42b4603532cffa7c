// depthroute-eval: a checkpoint, tokens and cells in; one results file and a table out.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "configs/base/error.h"
#include "configs/cli.h"
#include "configs/read.h"
#include "data/files.h"
#include "eval/analysis.h"
#include "eval/controls.h"
#include "eval/evaluate.h"
#include "eval/progress.h"
#include "eval/report.h"
#include "eval/results.h"
#include "eval/setup.h"
#include "train/model/weights.h"

namespace depthroute {
namespace {

std::string config_hash(const EvalConfig& config) {
  EvalConfig same = config;
  same.output.clear();  // where the results go is not part of what they are
  const std::string text = to_yaml(same);
  return hash_bytes(std::as_bytes(std::span<const char>(text)));
}

Provenance provenance(const CommandLine& command, const EvalConfig& config, const EvalModel& source,
                      const TokenStream& tokens, const Qwen3& model) {
  Provenance from;
  from.command_line = command.text;
  from.config_yaml = to_yaml(config);
  from.config_hash = config_hash(config);
  from.checkpoint_path =
      std::filesystem::canonical(source.folder.path()).string();  // what a link names may change
  from.checkpoint_checksum = model_folder_checksum(source.folder.path());
  for (const ShardInfo& shard : tokens.shards()) {
    from.data_paths.push_back(shard.path);
    from.data_checksums.push_back(hash_file(shard.path));
  }
  from.device = describe(model.device());
  from.precision = to_string(model.final_hidden().dtype);
  from.seed = config.statistics.seed;
  from.wrapped = source.wrapped();
  return from;
}

/// Cells that run, then controls.
std::vector<Comparison> comparisons(const Results& results) {
  std::vector<Comparison> list;
  for (const Cell& cell : results.cells)
    if (cell.runs()) list.push_back({cell.name, cell.first_site, cell.controls});
  for (const Control& control : results.controls)
    list.push_back({control.name, control.first_site, control.controls});
  return list;
}

void distribute(Evaluation& evaluation, Results& results) {
  size_t next = 0;
  for (const Cell& cell : results.cells)
    results.cell_outcomes.push_back(cell.runs() ? std::move(evaluation.outcomes[next++]) : Outcome{});
  for (size_t i = 0; i < results.controls.size(); ++i)
    results.control_outcomes.push_back(std::move(evaluation.outcomes[next++]));
  evaluation.outcomes.clear();
  results.evaluation = std::move(evaluation);
}

int run(const CommandLine& command) {
  const EvalConfig config = read_eval_config(command.config_path, command.overrides);
  if (command.print_config) {
    fmt::print("{}", to_yaml(config));
    return kExitOk;
  }
  check_output_path(config.output);
  const Device device = resolve_device(config.device, command.dry_run ? Use::planning : Use::computing);
  const EvalModel source = open_eval_model(config);
  const TokenStream tokens = open_eval_tokens(config, source.config.vocab_size);

  Arena arena(device);
  const int64_t micro_batch = std::min(config.micro_batch, config.data.sequences);
  Qwen3 model(source.config,
              {.micro_batch = micro_batch,
               .seq_len = config.data.seq_len,
               .activations = working_type(device, config.precision)},
              arena);
  Evaluator evaluator(model, arena);
  Results results;
  results.plan = &model.plan();
  results.cells = resolve_cells(config.cells, model.plan());
  results.controls = make_controls(model.plan(), source.recency_bias);
  if (command.dry_run) {
    fmt::print("{}", dry_run_report(source, config, results.cells, results.controls, model.plan(), arena));
    return kExitOk;
  }

  const Stream stream = make_stream(device);
  arena.allocate();
  load_eval_model(stream, source, model);
  results.provenance = provenance(command, config, source, tokens, model);
  results.provenance.parameters_before = parameters_checksum(stream, model.layout(), model.parameters());
  fmt::print("Model: {}\n  {}\nDevice: {}\n\n", source.folder.path(), source.describe(),
             results.provenance.device);
  std::fflush(stdout);

  const bool weights = config.routing.weights == "all" && model.plan().sites.front().routed;
  ResultsFile file(config.output, model.plan(), config.data.sequences, config.data.seq_len, weights);
  RoutingTrace trace(model.plan());
  const std::vector<Comparison> compared = comparisons(results);
  double work = Evaluator::cost(source.config, config.data.seq_len, 0);
  for (const Comparison& comparison : compared)
    work += Evaluator::cost(source.config, config.data.seq_len, comparison.first_site);
  {
    Progress progress(work * static_cast<double>(config.data.sequences));
    Evaluator::Hooks hooks;
    hooks.trace = &trace;
    if (weights)
      hooks.weights = [&](int site, int64_t first, std::span<const float> values) {
        file.write_weights(site, first, values);
      };
    hooks.worked = [&](double amount) { progress.add(amount); };
    Evaluation evaluation = evaluator.run(stream, tokens, config.data.sequences, compared, hooks);
    distribute(evaluation, results);
  }
  results.trace = &trace;
  results.provenance.parameters_after = parameters_checksum(stream, model.layout(), model.parameters());
  if (source.wrapped()) results.wrapper = check_wrapper(trace, source.recency_bias);
  analyze(results, {config.statistics.bootstrap, config.statistics.alpha, config.statistics.seed});
  file.write(results);
  file.commit();
  fmt::print("{}", results_report(results, config.statistics.alpha, config.output));
  if (results.controls_pass()) return kExitOk;
  std::fflush(stdout);
  fmt::print(stderr,
             "{}: error: a control failed (see the table above): the numbers in {} cannot be trusted\n",
             command.program, config.output);
  return kExitFailure;
}

}  // namespace
}  // namespace depthroute

int main(int argc, char** argv) {
  const auto body = [argv](const depthroute::CommandLine& line) {
    depthroute::prepare_process(argv);  // may start the program again, with better settings
    return depthroute::run(line);
  };
  return depthroute::run_program(argc, argv,
                                 "Measures what the routing of a checkpoint does, and what changing it does.",
                                 depthroute::eval_reference(), body);
}
