#include "eval/dry_run.h"

#include <fmt/format.h>

#include <iterator>

#include "eval/analysis/effects.h"
#include "eval/build_results.h"
#include "eval/results/report.h"
#include "kernels/memory_table.h"

namespace depthroute {
namespace {

template <typename... Args>
void line(std::string& text, fmt::format_string<Args...> format, Args&&... args) {
  fmt::format_to(std::back_inserter(text), format, std::forward<Args>(args)...);
  text += '\n';
}

void append_data(std::string& text, const EvalInput& input) {
  const Sequences& sequences = *input.sequences;
  const std::string at_a_time = fmt::format("{} at a time", input.micro_batch());
  const char* const split = to_string(input.config.data.split);
  if (!input.requests) {
    line(text, "Data: {} sequences of {} tokens ({}, split {}), {}; {} documents", sequences.size(),
         sequences.seq_len(), to_string(input.config.data.choose), split, at_a_time, sequences.documents());
    if (sequences.documents_cut() > 0)
      line(text, "  {} documents are longer than {} tokens and measured up to there",
           sequences.documents_cut(), sequences.seq_len() + 1);
    return;
  }
  int64_t scored = 0, read = 0, cut = 0;
  for (int64_t i = 0; i < sequences.size(); ++i) {
    scored += sequences.tokens(i);
    read += sequences.length(i);
    cut += sequences.request(i).cut > 0;
  }
  line(text, "Task: {} ({}, made with {}), split {}", input.requests->task(),
       to_string(input.requests->type()), input.requests->harness(), split);
  line(text, "  {} documents, {} requests, {} scored tokens of {} that are read; {}", sequences.documents(),
       sequences.size(), scored, read, at_a_time);
  line(text, "  padded to the longest request, {} tokens: {:.0f} % of the work is padding",
       sequences.seq_len(),
       100 * (1 - static_cast<double>(read) / static_cast<double>(sequences.size() * sequences.seq_len())));
  if (cut > 0)
    line(text, "  {} requests did not fit into {} tokens and lost the beginning of their context", cut,
         input.requests->max_length());
}

void append_cells(std::string& text, const EvalInput& input) {
  if (input.cells.empty()) return;
  const size_t width = name_width(input.cells);
  line(text, "\nCells: {}\n  {:<{}}  {:<16}{}", input.cells.size(), "name", width, "first site", "sites");
  for (const Cell& cell : input.cells)
    line(text, "  {:<{}}  {:<16}{}", cell.name, width,
         cell.runs() ? input.plan.site_name(cell.first_site) : "not run", site_counts(cell));
}

void append_memory(std::string& text, const EvalInput& input, const Arena& arena) {
  line(text, "\nMemory ({})", to_string(arena.device()));
  MemoryTable planned, results;
  planned.add_purposes(arena);
  planned.add("total", arena.total_bytes());
  const ResultsMemory needed = results_memory(input);
  results.add("measured", needed.measured);
  results.add("bootstrap", needed.bootstrap);
  text += planned.text() + "Memory for results (rank 0, on the host; not for --part)\n" + results.text();
}

void append_cost(std::string& text, const EvalInput& input) {
  const ModelConfig& model = input.model.config;
  const int64_t sequences = input.sequences->size(), seq_len = input.sequences->seq_len();
  double passes = 1;
  for (const double cost : costs_of(input.comparisons.list, model, seq_len)) passes += cost;
  const double flops = Qwen3::train_flops_per_token(model, seq_len) / 3 * static_cast<double>(sequences) *
                       static_cast<double>(seq_len) * passes;
  line(
      text,
      "\nCost: {:.1f} forward passes over {} tokens, {:.3g} FLOPs in matrix products; {} comparisons, {:.2f} of a "
      "pass each",
      passes, sequences * seq_len, flops, input.comparisons.list.size(),
      (passes - 1) / static_cast<double>(input.comparisons.list.size()));
}

}  // namespace

std::string dry_run_report(const EvalInput& input, const Arena& arena) {
  std::string text;
  line(text, "Model: {}\n  {}", input.model.folder.path(), input.model.describe());
  const Sequences& sequences = *input.sequences;
  append_data(text, input);
  if (sequences.documents() < kEnoughDocuments)
    line(text, "  fewer than {} documents: intervals may be too narrow", kEnoughDocuments);
  if (input.calibration)
    line(text, "Calibration: {} sequences of the calibration split", input.calibration->size());
  line(text, "Output: {}", input.config.output);
  append_cells(text, input);
  append_memory(text, input, arena);
  append_cost(text, input);
  return text;
}

}  // namespace depthroute
