// What the results file says about a benchmark task: /task, and the requests in /sequence.
#include <fmt/format.h>

#include <set>

#include "eval/analysis/task_outcomes.h"
#include "eval/results/put.h"
#include "eval/results/results_file.h"

namespace depthroute {
namespace {

const std::string kGroup = "/task/";

std::string number_long_name(const TaskMetric& metric) {
  return metric.number == TaskNumber::nll ? "negative log-likelihood of the document's scored tokens"
                                          : fmt::format("1 where the document is right, by {}", metric.name);
}

/// The metrics whose numbers per document are different ones.
std::vector<size_t> distinct_numbers(std::span<const TaskMetric> metrics) {
  std::vector<size_t> distinct;
  std::set<std::string> seen;
  for (size_t i = 0; i < metrics.size(); ++i)
    if (seen.insert(metrics[i].number_name()).second) distinct.push_back(i);
  return distinct;
}

}  // namespace

void ResultsFile::write_requests() {
  const std::vector<std::string> axis = {"/sequence/sequence"};
  std::vector<int64_t> choices, contexts, cuts;
  for (int64_t i = 0; i < sequences_.size(); ++i) {
    const Request& request = sequences_.request(i);
    choices.push_back(request.choice);
    contexts.push_back(request.context);
    cuts.push_back(request.cut);
  }
  put(file_, "/sequence/request", choices, axis,
      {"1", "number of the request (choice, window) in its document"});
  put(file_, "/sequence/context_tokens", contexts, axis, {"1", "tokens before the first that is scored"});
  put(file_, "/sequence/tokens_cut", cuts, axis,
      {"1", "tokens of the context that did not fit and were dropped"});
}

void ResultsFile::write_task_documents(const TaskDocuments& task) {
  const RequestFile& requests = *sequences_.requests();
  file_.attribute("/task", "task", requests.task());
  file_.attribute("/task", "output_type", std::string(to_string(requests.type())));
  file_.attribute("/task", "harness", requests.harness());
  file_.attribute("/task", "tokenizer", requests.tokenizer());
  file_.attribute("/task", "max_length", requests.max_length());
  const auto number = [&](auto get) {
    std::vector<int64_t> values;
    for (int64_t i = 0; i < task.size(); ++i) values.push_back(get(task.document(i)));
    return values;
  };
  file_.scale(kGroup + "document", number([](const RequestDocument& d) { return d.number; }),
              {"1", "number of the document in the task's data set"});
  const std::vector<std::string> axis = {kGroup + "document"};
  if (requests.type() == TaskType::multiple_choice)
    put(file_, kGroup + "gold", number([](const RequestDocument& d) { return d.gold; }), axis,
        {"1", "number of the right choice"});
  if (requests.type() != TaskType::loglikelihood_rolling) return;
  put(file_, kGroup + "words", number([](const RequestDocument& d) { return d.words; }), axis,
      {"1", "words of the document, as the task counts them"});
  put(file_, kGroup + "bytes", number([](const RequestDocument& d) { return d.bytes; }), axis,
      {"1", "bytes of the document in UTF-8, as the task counts them"});
}

void ResultsFile::write_task(const Results& results) {
  const TaskDocuments& task = *results.task;
  const std::span<const TaskMetric> metrics = task.metrics();
  file_.group("/task");
  write_requests();
  write_task_documents(task);
  for (size_t m = 0; m < metrics.size(); ++m)
    put_estimates(file_, kGroup + "clean_" + metrics[m].name, {results.clean_task.values[m]}, {},
                  {metrics[m].units, std::string(metrics[m].long_name) + ", clean run"}, level_);
  for (const size_t m : distinct_numbers(metrics))
    put(file_, fmt::format("{}clean_{}_by_document", kGroup, metrics[m].number_name()),
        results.clean_task.numbers[m], {kGroup + "document"},
        {metrics[m].number_units(), number_long_name(metrics[m]) + ", clean run"});

  file_.link("/known_answer/known_answer", kGroup + "known_answer");
  for (size_t m = 0; m < metrics.size(); ++m)
    put(file_, kGroup + "known_answer_" + metrics[m].change_name(),
        column<double>(results.comparison_of_known_answer,
                       [&](int comparison) { return results.task_effects[comparison].changes[m].value; }),
        {kGroup + "known_answer"},
        {metrics[m].perplexity ? "1" : metrics[m].units, metrics[m].change_long_name() + ", known answers"});
  if (results.cells.empty()) return;

  file_.link("/cell/cell", kGroup + "cell");
  const auto estimates = [&](size_t m, std::vector<Estimate> TaskEffect::*which) {
    return column<Estimate>(results.comparison_of_cell, [&](int comparison) {
      return comparison < 0 ? missing_estimate() : (results.task_effects[comparison].*which)[m];
    });
  };
  for (size_t m = 0; m < metrics.size(); ++m) {
    const TaskMetric& metric = metrics[m];
    put_estimates(file_, kGroup + metric.name, estimates(m, &TaskEffect::values), {kGroup + "cell"},
                  {metric.units, std::string(metric.long_name) + ", under the cell"}, level_);
    put_estimates(file_, kGroup + metric.change_name(), estimates(m, &TaskEffect::changes), {kGroup + "cell"},
                  {metric.perplexity ? "1" : metric.units, metric.change_long_name()}, level_);
  }
  for (const size_t m : distinct_numbers(metrics)) {
    std::vector<double> numbers;
    for (const int comparison : results.comparison_of_cell) {
      if (comparison < 0) {
        numbers.insert(numbers.end(), static_cast<size_t>(task.size()), kMissing);
      } else {
        const std::vector<double>& own = results.task_effects[comparison].numbers[m];
        numbers.insert(numbers.end(), own.begin(), own.end());
      }
    }
    put(file_, fmt::format("{}{}_by_document", kGroup, metrics[m].number_name()), numbers,
        {kGroup + "cell", kGroup + "document"},
        {metrics[m].number_units(), number_long_name(metrics[m]) + ", under the cell"});
  }
}

}  // namespace depthroute
