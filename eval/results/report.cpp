#include "eval/results/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "eval/analysis/effects.h"

namespace depthroute {
namespace {

template <typename... Args>
void line(std::string& text, fmt::format_string<Args...> format, Args&&... args) {
  fmt::format_to(std::back_inserter(text), format, std::forward<Args>(args)...);
  text += '\n';
}

/// Formats NaN as "-".
std::string number(double value, const char* format) {
  return std::isnan(value) ? "-" : fmt::format(fmt::runtime(format), value);
}

std::string interval(const Estimate& estimate, const char* format) {
  if (std::isnan(estimate.low)) return "";
  return fmt::format("[{}, {}]", number(estimate.low, format), number(estimate.high, format));
}

void append_mass(std::string& text, const RoutingTrace& trace) {
  line(text, "\nRouting mass by family (mean over sites)");
  line(text, "  {:<12}{:>10}{:>10}{:>10}{:>10}{:>12}", "", "embedding", "older", "recent", "current",
       "sites");
  const auto row = [&](Sublayer sublayer, Band band, const std::string& name) {
    int64_t count = 0;
    for (int site = 0; site < static_cast<int>(trace.plan().sites.size()); ++site)
      count += trace.plan().sites[site].sublayer == sublayer && trace.plan().band(site) == band;
    if (count == 0) return;
    text += fmt::format("  {:<12}", name);
    for (const Family family : values<Family>())
      text += fmt::format("{:>10.4f}", trace.family_mass(family, sublayer, band));
    line(text, "{:>12}", count);
  };
  for (Sublayer sublayer : {Sublayer::attn, Sublayer::mlp})
    for (const Band band : values<Band>())
      row(sublayer, band, fmt::format("{} {}", to_string(sublayer), to_string(band)));
  row(Sublayer::final, Band::none, "final");
}

void append_cells(std::string& text, const Results& results, double alpha) {
  const size_t width = name_width(results.cells);
  line(text, "\nCells: change against the clean run per token, {:g} % intervals over documents",
       100 * (1 - alpha));
  line(text, "  {:<{}}  {:>8}  {:>10}  {:<24}{:>10}{:>9}  {}", "name", width, "mass", "dNLL", "", "KL",
       "flips %", "sites");
  for (size_t i = 0; i < results.cells.size(); ++i) {
    const Cell& cell = results.cells[i];
    const Effect& effect = results.effects[i];
    if (!cell.runs()) {
      line(text, "  {:<{}}  not run: no site to change ({} skipped, {} without such a source)", cell.name,
           width, cell.sites_skipped, cell.sites_absent);
      continue;
    }
    const Estimate& delta = effect[CellColumn::delta_nll];
    line(text, "  {:<{}}  {:>8}  {:>10}  {:<24}{:>10}{:>9}  {}{}", cell.name, width,
         number(effect.mass, "{:.4f}"), number(delta.value, "{:+.5f}"), interval(delta, "{:+.5f}"),
         number(effect[CellColumn::kl].value, "{:.5f}"),
         number(100 * effect[CellColumn::flips].value, "{:.2f}"), site_counts(cell),
         effect.out_of_distribution ? "  out of distribution" : "");
  }
}

void append_known_answers(std::string& text, const Results& results) {
  line(text, "\nKnown answers");
  line(text, "  {:<22}{:>12}{:>12}{:>16}  {}", "name", "dNLL", "KL", "largest token", "expected");
  for (size_t i = 0; i < results.known_answers.size(); ++i) {
    const KnownAnswer& known_answer = results.known_answers[i];
    const Effect& effect = results.known_answer_effects[i];
    const double largest = effect.largest_change;
    const char* mark = !known_answer.judged() ? "" : known_answer.passes(largest) ? "  ok" : "  FAILED";
    line(text, "  {:<22}{:>12}{:>12}{:>16}  {}{}", known_answer.name,
         number(effect[CellColumn::delta_nll].value, "{:+.3g}"),
         number(effect[CellColumn::kl].value, "{:.3g}"), number(largest, "{:.3g}"), known_answer.expectation,
         mark);
  }
  const bool same = results.provenance.parameters_before == results.provenance.parameters_after;
  line(text, "  parameters before and after: {}", same ? "equal  ok" : "DIFFERENT  FAILED");
  if (results.provenance.wrapped)
    line(text, "  wrapper: largest |weight - schedule| {:.3g}, largest std over tokens {:.3g}",
         results.wrapper.largest_deviation, results.wrapper.largest_std);
}

/// Metrics of a task: of the clean run, and the change that each cell makes.
void append_task(std::string& text, const Results& results) {
  const RequestFile& requests = *results.sequences->requests();
  const std::span<const TaskMetric> metrics = results.task->metrics();
  line(text, "\nTask {}: {} documents, {} requests", requests.task(), results.task->size(),
       results.sequences->size());
  for (size_t m = 0; m < metrics.size(); ++m) {
    const Estimate& clean = results.clean_task.values[m];
    line(text, "  {:<16}{:>10} {}", metrics[m].name, number(clean.value, "{:.4f}"),
         interval(clean, "{:.4f}"));
  }
  if (results.cells.empty()) return;
  const size_t width = name_width(results.cells);
  text += fmt::format("  {:<{}}", "change by cell", width);
  for (const TaskMetric& metric : metrics) text += fmt::format("  {:<32}", metric.change_name());
  text += '\n';
  for (size_t i = 0; i < results.cells.size(); ++i) {
    if (results.comparison_of_cell[i] < 0) continue;
    text += fmt::format("  {:<{}}", results.cells[i].name, width);
    for (size_t m = 0; m < metrics.size(); ++m) {
      const Estimate& change = results.task_effects[results.comparison_of_cell[i]].changes[m];
      const char* format = metrics[m].perplexity ? "{:.4f}" : "{:+.4f}";
      text += fmt::format("  {:<32}", number(change.value, format) + " " + interval(change, format));
    }
    text.erase(text.find_last_not_of(' ') + 1);
    text += '\n';
  }
}

}  // namespace

size_t name_width(const std::vector<Cell>& cells) {
  size_t width = 4;
  for (const Cell& cell : cells) width = std::max(width, cell.name.size());
  return width;
}

std::string site_counts(const Cell& cell) {
  std::string text = std::to_string(cell.sites_ablated), notes;
  const auto note = [&](int count, const char* what) {
    if (count > 0) notes += fmt::format("{}{} {}", notes.empty() ? "" : ", ", count, what);
  };
  note(cell.sites_skipped, "skipped");
  note(cell.sites_duplicate, "duplicate");
  return notes.empty() ? text : text + " (" + notes + ")";
}

std::string results_report(const Results& results, double alpha, const std::string& path) {
  const Sequences& sequences = *results.sequences;
  std::string text;
  line(text, "Clean run: {:.5f} nats/token {}, perplexity {:.3f}, {} sequences of {}{} tokens, {} documents",
       results.clean.value, interval(results.clean, "{:.5f}"), std::exp(results.clean.value),
       sequences.size(), sequences.requests() ? "up to " : "", sequences.seq_len(), sequences.documents());
  line(text,
       "  unigram entropy of these tokens {:.4f} nats: a cell whose loss exceeds it is out of distribution",
       results.unigram_entropy);
  if (sequences.documents() < kEnoughDocuments)
    line(text, "  fewer than {} documents: intervals may be too narrow", kEnoughDocuments);
  if (results.trace && !results.trace->empty()) append_mass(text, *results.trace);
  if (!results.cells.empty()) append_cells(text, results, alpha);
  if (results.task) append_task(text, results);
  append_known_answers(text, results);
  line(text, "\nResults: {}", path);
  return text;
}

}  // namespace depthroute
