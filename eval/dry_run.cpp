#include "eval/dry_run.h"

#include <fmt/format.h>

#include <iterator>

#include "eval/analysis/effects.h"
#include "eval/results/report.h"
#include "kernels/memory_table.h"

namespace depthroute {
namespace {

template <typename... Args>
void line(std::string& text, fmt::format_string<Args...> format, Args&&... args) {
  fmt::format_to(std::back_inserter(text), format, std::forward<Args>(args)...);
  text += '\n';
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
  const int64_t sequences = input.config.data.sequences, seq_len = input.config.data.seq_len;
  const int64_t comparisons = static_cast<int64_t>(input.comparisons().size());
  results.add("measured", Evaluation::bytes(sequences, seq_len, comparisons));
  results.add("bootstrap", BootstrapMemory::bytes(input.config.statistics.bootstrap, sequences,
                                                  analyzed_quantities(comparisons)));
  text += planned.text() + "Memory for results (rank 0, on the host; not for --part)\n" + results.text();
}

void append_cost(std::string& text, const EvalInput& input) {
  const ModelConfig& model = input.model.config;
  const int64_t sequences = input.config.data.sequences, seq_len = input.config.data.seq_len;
  double passes = Evaluator::cost(model, seq_len, 0);
  for (const Comparison& comparison : input.comparisons())
    passes += Evaluator::cost(model, seq_len, comparison.first_site);
  const double flops = Qwen3::train_flops_per_token(model, seq_len) / 3 * static_cast<double>(sequences) *
                       static_cast<double>(seq_len) * passes;
  line(text, "\nCost: {:.1f} forward passes over {} tokens, {:.3g} FLOPs in matrix products", passes,
       sequences * seq_len, flops);
}

}  // namespace

std::string dry_run_report(const EvalInput& input, const Arena& arena) {
  std::string text;
  line(text, "Model: {}\n  {}", input.model.folder.path(), input.model.describe());
  line(text, "Data: {} sequences of {} tokens, {} at a time", input.config.data.sequences,
       input.config.data.seq_len, input.micro_batch());
  line(text, "Output: {}", input.config.output);
  append_cells(text, input);
  append_memory(text, input, arena);
  append_cost(text, input);
  return text;
}

}  // namespace depthroute
