#include "eval/build_results.h"

#include <fmt/format.h>

#include <cstdio>

#include "configs/base/error.h"
#include "configs/standard_streams.h"
#include "eval/analysis/effects.h"
#include "eval/analysis/task_effects.h"
#include "eval/results/report.h"
#include "eval/results/results_file.h"

namespace depthroute {
namespace {

Lengths all_lengths(const EvalInput& input) {
  return lengths_of(input.plan, *input.sequences, {0, input.sequences->size()}, input.donors());
}

int64_t quantities(const EvalInput& input) {
  return analyzed_quantities(static_cast<int64_t>(input.comparisons.list.size()));
}

Evaluation reserve_evaluation(const EvalInput& input) {
  Evaluation evaluation;
  evaluation.reserve(all_lengths(input), input.comparisons.list.size());
  return evaluation;
}

}  // namespace

ResultsMemory results_memory(const EvalInput& input) {
  return {Evaluation::bytes(all_lengths(input), static_cast<int64_t>(input.comparisons.list.size())),
          BootstrapMemory::bytes(input.config.statistics.bootstrap, input.sequences->documents(),
                                 quantities(input))};
}

int report_wrong_answer(const CommandLine& command, const std::string& where) {
  print_text(stderr, fmt::format("{}: error: a known answer came out wrong ({}\n", command.program, where));
  return kExitFailure;
}

struct ResultsBuilder::Memory {
  BootstrapMemory bootstrap;
  Evaluation evaluation;
  RoutingTrace trace;
  ResultsFile file;

  explicit Memory(const EvalInput& input)
      : bootstrap(input.config.statistics.bootstrap, input.sequences->documents(), quantities(input)),
        evaluation(reserve_evaluation(input)),
        trace(input.plan),
        file(input.config.output, input.plan, *input.sequences, input.stores_weights()) {}
};

ResultsBuilder::ResultsBuilder(const EvalInput& input)
    : memory_(std::make_unique<Memory>(input)), input_(input) {}
ResultsBuilder::~ResultsBuilder() = default;

int ResultsBuilder::finish(const CommandLine& command, const UnitStore& store, Provenance from) {
  const BatchRange batches = input_.batches();
  store.add_to(from, batches);
  for (int64_t i = 0; i < batches.count; ++i) {
    const UnitRecord record = store.read(batches.number(i));
    const SequenceRange range = batches.at(i);
    int64_t tokens = 0;
    for (int64_t s = range.first; s < range.first + range.size; ++s) tokens += input_.sequences->tokens(s);
    memory_->evaluation.append(range.size, record.clean, record.outcomes);
    memory_->trace.add(record.clean, tokens);
    memory_->file.write_weights(range, record.weights);
  }
  Results results;
  results.provenance = std::move(from);
  results.variant = to_string(input_.model.config.residual.variant);
  results.plan = &input_.plan;
  results.trace = &memory_->trace;
  results.sequences = input_.sequences.get();
  results.evaluation = std::move(memory_->evaluation);
  results.cells = input_.cells;
  results.comparison_of_cell = input_.comparisons.of_cell;
  const std::vector<double> costs =
      costs_of(input_.comparisons.list, input_.model.config, input_.sequences->seq_len());
  for (const Comparison& comparison : input_.comparisons.list)
    results.comparison_hashes.push_back(comparison.hash);
  for (const int comparison : results.comparison_of_cell)
    results.cost_of_cell.push_back(comparison < 0 ? 0.0 : costs[comparison]);
  // What is 0 up to rounding is only judged in float32.
  const bool calibrated = input_.calibration != nullptr, fp32 = results.provenance.precision == "fp32";
  results.known_answers = make_known_answers(input_.plan, input_.model.recency_bias, {fp32, calibrated});
  results.comparison_of_known_answer = input_.comparisons.of_known_answer;
  results.recency_bias = input_.model.recency_bias;
  results.unigram_entropy = unigram_entropy(*input_.sequences);
  if (input_.model.wrapped()) results.wrapper = check_wrapper(memory_->trace, input_.model.recency_bias);
  const StatisticsConfig& statistics = input_.config.statistics;
  const BootstrapOptions options{statistics.bootstrap, statistics.alpha, statistics.seed};
  analyze(results, options, memory_->bootstrap);
  analyze_task(results, options, memory_->bootstrap);

  memory_->file.write(results, input_.config);
  memory_->file.commit();
  const std::string& output = input_.config.output;
  print_text(stdout, results_report(results, statistics.alpha, output));
  if (results.known_answers_pass()) return kExitOk;
  return report_wrong_answer(
      command, fmt::format("see the table above): the numbers in {} cannot be trusted", output));
}

}  // namespace depthroute
