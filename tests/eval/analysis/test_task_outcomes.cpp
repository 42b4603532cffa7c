// A task's metrics from log-likelihoods that are chosen by hand.
#include <gtest/gtest.h>

#include <cmath>

#include "data/atomic_path.h"
#include "eval/analysis/effects.h"
#include "eval/analysis/task_effects.h"
#include "tests/support/request_text.h"
#include "tests/support/temp_folder.h"

namespace depthroute {
namespace {

using testing_support::choice;
using testing_support::document;
using testing_support::request;
using testing_support::request_text;

/// A task of which every request has continuations of two tokens, with the losses and hits of its segments.
struct Measured {
  Measured(const std::string& type, const std::vector<std::string>& documents)
      : file(write(request_text(type, documents))), sequences(file, {}, {}, Split::all), task(sequences) {}
  std::string write(const std::string& text) const {
    write_file_atomically(folder / "task.jsonl", text);
    return folder / "task.jsonl";
  }
  std::vector<double> numbers(const char* metric, const std::vector<double>& nll,
                              const std::vector<double>& hits = {}) const {
    for (const TaskMetric& one : task.metrics())
      if (std::string(one.name) == metric)
        return task.numbers(one, nll, hits.empty() ? std::vector<double>(nll.size(), 0.0) : hits);
    return {};
  }
  TempFolder folder;
  RequestFile file;
  Sequences sequences;
  TaskDocuments task;
};

using Numbers = std::vector<double>;

TEST(TaskOutcomes, TheLikeliestChoiceWinsAndOfEqualOnesTheFirst) {
  const auto item = [](int64_t number, int64_t gold) {
    return document(number, {choice({1}, {2, 3}, 10), choice({1}, {4, 5}, 20)},
                    "\"gold\": " + std::to_string(gold) + ", ");
  };
  const Measured measured("multiple_choice", {item(0, 0), item(1, 1), item(2, 0), item(3, 1)});
  //                            0         1         2 (tie)   3: likelier per character though not as a whole
  const Numbers nll = {3, 4, 5.5, 5, 6, 6, 6, 9};
  EXPECT_EQ(measured.numbers("acc", nll), (Numbers{1, 1, 1, 0}));
  EXPECT_EQ(measured.numbers("acc_norm", nll), (Numbers{0, 1, 0, 1}));
  EXPECT_EQ(measured.numbers("acc_bytes", nll), measured.numbers("acc_norm", nll));
  const Numbers unknown = {std::nan(""), 4, 5.5, 5, 6, 6, 6, 9};
  EXPECT_TRUE(std::isnan(measured.numbers("acc", unknown)[0]));
  EXPECT_EQ(measured.numbers("acc", unknown)[1], 1);
}

TEST(TaskOutcomes, GreedyIsEveryTokenAHit) {
  const Measured measured("loglikelihood",
                          {document(0, {request({1}, {2, 3})}), document(1, {request({1}, {4, 5})}),
                           document(2, {request({1}, {4})})});
  EXPECT_EQ(measured.numbers("acc", {1, 1, 1}, {2, 1, 1}), (Numbers{1, 0, 1}));
  EXPECT_EQ(measured.numbers("perplexity", {1, 2, 4}, {2, 1, 1}), (Numbers{1, 2, 4}));
}

TEST(TaskOutcomes, WindowsOfADocumentAddUp) {
  const Measured measured(
      "loglikelihood_rolling",
      {document(0, {request({0}, {1, 2}), request({2}, {3})}, "\"words\": 3, \"bytes\": 17, "),
       document(1, {request({0}, {1})}, "\"words\": 1, \"bytes\": 5, ")});
  EXPECT_EQ(measured.numbers("word_perplexity", {1, 2, 4}), (Numbers{3, 4}));
  EXPECT_EQ(measured.task.weights(measured.task.metrics()[0]), (std::vector<int64_t>{3, 1}));
  EXPECT_EQ(measured.task.weights(measured.task.metrics()[1]), (std::vector<int64_t>{17, 5}));
}

/// Results whose two comparisons change the losses of two documents, the second by two donors that disagree.
Results choices_under_two_cells(const Measured& measured) {
  Results results;
  results.sequences = &measured.sequences;
  results.evaluation.clean[CleanColumn::nll] = {1, 2, 2, 1.5};
  results.evaluation.clean[CleanColumn::hit] = {0, 0, 0, 0};
  for (const Numbers& delta : {Numbers{0, 0, 0, 0}, Numbers{0, 0, 0, 0.5}}) {
    Outcome outcome;
    outcome[CellColumn::delta_nll] = delta;
    outcome[CellColumn::hit_change] = {0, 0, 0, 0};
    results.evaluation.outcomes.push_back(outcome);
  }
  Outcome& donors = results.evaluation.outcomes[1];
  donors[CellColumn::segment_donor_delta_nll] = {0, 0, 0, 0, 0, 0, 0, 1};  // [segment, donor]
  donors[CellColumn::segment_donor_hit_change] = Numbers(8, 0.0);
  return results;
}

TEST(TaskOutcomes, AChangeIsPairedAndDonorsCountOneByOne) {
  const auto item = [](int64_t number, int64_t gold) {
    return document(number, {choice({1}, {2}, 1), choice({1}, {4}, 1)},
                    "\"gold\": " + std::to_string(gold) + ", ");
  };
  const Measured measured("multiple_choice", {item(0, 0), item(1, 1)});
  Results results = choices_under_two_cells(measured);
  const BootstrapOptions options{100, 0.05, 1};
  BootstrapMemory memory(100, 2, 4);
  analyze_task(results, options, memory);
  EXPECT_EQ(results.clean_task.values[0].value, 1);
  const Estimate& identity = results.task_effects[0].changes[0];
  EXPECT_EQ(identity.value, 0);
  EXPECT_EQ(identity.low, 0);
  EXPECT_EQ(identity.high, 0);
  // The mean of the donors leaves a tie that the first, wrong choice would win; one of two donors alone does.
  EXPECT_EQ(results.task_effects[1].numbers[0], (Numbers{1, 0.5}));
  EXPECT_EQ(results.task_effects[1].values[0].value, 0.75);
  EXPECT_EQ(results.task_effects[1].changes[0].value, -0.25);
  EXPECT_EQ(results.task_effects[1].changes[0].low, -0.5);
  EXPECT_EQ(results.task_effects[1].changes[0].high, 0);
}

TEST(TaskOutcomes, PerplexitiesAreExponentialsOfMeansOverTheirOwnWeights) {
  const Measured measured(
      "loglikelihood_rolling",
      {document(0, {request({0}, {1}), request({2}, {3})}, "\"words\": 3, \"bytes\": 16, "),
       document(1, {request({0}, {1})}, "\"words\": 1, \"bytes\": 8, ")});
  Results results;
  results.sequences = &measured.sequences;
  results.evaluation.clean[CleanColumn::nll] = {1, 3, 8};
  results.evaluation.clean[CleanColumn::hit] = {0, 0, 0};
  Outcome outcome;
  outcome[CellColumn::delta_nll] = {0.5, -0.25, 1};
  outcome[CellColumn::hit_change] = {0, 0, 0};
  results.evaluation.outcomes = {outcome};
  const BootstrapOptions options{200, 0.1, 3};
  BootstrapMemory memory(200, 2, 3);
  analyze_task(results, options, memory);
  const TaskEffect& cell = results.task_effects[0];
  EXPECT_DOUBLE_EQ(results.clean_task.values[0].value, std::exp(12.0 / 4));
  EXPECT_DOUBLE_EQ(results.clean_task.values[1].value, std::exp(12.0 / 24));
  EXPECT_DOUBLE_EQ(results.clean_task.values[2].value, 12.0 / 24 / std::log(2.0));
  EXPECT_DOUBLE_EQ(cell.values[0].value, std::exp(13.25 / 4));
  EXPECT_DOUBLE_EQ(cell.changes[0].value, std::exp(1.25 / 4));
  EXPECT_DOUBLE_EQ(cell.changes[2].value, 1.25 / 24 / std::log(2.0));
  // Two documents: the ends are those of drawing either one alone.
  EXPECT_DOUBLE_EQ(cell.changes[0].low, std::exp(0.25 / 3));
  EXPECT_DOUBLE_EQ(cell.changes[0].high, std::exp(1.0));
}

}  // namespace
}  // namespace depthroute
