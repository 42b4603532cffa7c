// Contents of interventions: calibration means, donors, held weights and token masks, as tensors.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>
#include <string>

#include "configs/base/error.h"
#include "eval/measure/contents.h"
#include "tests/train/model/small_model.h"

namespace depthroute {
namespace {

constexpr int64_t kBatch = 3, kLength = 5, kTokens = kBatch * kLength;
using Values = std::vector<float>;

/// A batch whose sequences own the lists they are made of.
struct Sequences {
  std::vector<int64_t> numbers, lengths;
  std::vector<std::vector<int64_t>> documents, starts;

  static Sequences separate(int64_t first = 10) {
    Sequences list;
    for (int64_t i = 0; i < kBatch; ++i) {
      list.numbers.push_back(first + i);
      list.lengths.push_back(kLength);
      list.documents.push_back({100 + i});
      list.starts.push_back({0});
    }
    return list;
  }
  std::vector<BatchSequence> views() const {
    std::vector<BatchSequence> list;
    for (size_t i = 0; i < numbers.size(); ++i)
      list.push_back({numbers[i], lengths[i], documents[i], starts[i]});
    return list;
  }
};

struct Tested {
  Arena arena{test::device()};
  Stream stream = test::stream();
  Qwen3 model;
  std::unique_ptr<Contents> contents;
  Batch batch;

  explicit Tested(Variant variant, int64_t length = kLength, DType activations = DType::f32)
      : model(small_config(variant),
              {.micro_batch = kBatch, .seq_len = length, .activations = activations, .interventions = true},
              arena),
        batch(random_batch(kBatch, length, 61, 3)) {}
  const DepthPlan& plan() const { return model.plan(); }
  std::vector<SiteChange> clean() const { return std::vector<SiteChange>(plan().sites.size()); }
  void prepare(const std::vector<std::vector<SiteChange>>& lists) {
    ContentNeeds needs;
    for (const auto& changes : lists) needs.add(plan(), changes);
    contents = std::make_unique<Contents>(model, needs, ResampleConfig{2, 1}, arena);
    arena.allocate();
    randomize(model, 31);
  }
  Values run(const std::vector<SiteIntervention>& interventions = {}) {
    model.forward(stream, batch.input_tensor(), interventions);
    return test::host_values(model.final_hidden());
  }
};

SiteChange substitution(int source, ContentKind kind, Replaced what = Replaced::both) {
  SiteChange change;
  change.substitutions = {{source, what, {kind}}};
  return change;
}

SiteChange weights_from(WeightSource weights) {
  SiteChange change;
  change.weights = weights;
  return change;
}

/// Tokens and lengths of three calibration batches, the last one small, none reaching the last position.
std::vector<CalibrationBatch> calibration_batches() {
  std::vector<CalibrationBatch> batches = {{{}, {4, 2, 4}}, {{}, {3, 4, 1}}, {{}, {4}}};
  uint64_t counter = 0;
  for (CalibrationBatch& batch : batches)
    for (size_t i = 0; i < batch.lengths.size() * kLength; ++i)
      batch.tokens.push_back(static_cast<int32_t>(random_below(77, counter++, 61)));
  return batches;
}

CalibrationBatches feed(const std::vector<CalibrationBatch>& batches) {
  return [&batches, next = size_t{0}](CalibrationBatch& batch) mutable {
    if (next == batches.size()) return false;
    batch = batches[next++];
    return true;
  };
}

/// Means of [N,C] values in float64, over all positions before padding, and over those of each position.
struct SlowMeans {
  std::vector<double> all, by_position;

  template <typename Read>
  SlowMeans(Tested& tested, const std::vector<CalibrationBatch>& batches, int64_t columns, Read read)
      : all(columns, 0.0), by_position(kLength * columns, 0.0) {
    std::vector<int64_t> counts(kLength, 0);
    int64_t total = 0;
    for (const CalibrationBatch& batch : batches) {
      const auto sequences = static_cast<int64_t>(batch.lengths.size());
      test::I32 tokens({sequences, kLength});
      std::copy(batch.tokens.begin(), batch.tokens.end(), tokens.data());
      tested.model.forward(tested.stream, tokens);
      const Values values = test::host_values(read());
      for (int64_t i = 0; i < sequences; ++i)
        for (int64_t t = 0; t < batch.lengths[i]; ++t) {
          ++counts[t];
          ++total;
          for (int64_t c = 0; c < columns; ++c) {
            all[c] += values[(i * kLength + t) * columns + c];
            by_position[t * columns + c] += values[(i * kLength + t) * columns + c];
          }
        }
    }
    for (double& value : all) value /= static_cast<double>(total);
    for (int64_t i = 0; i < kLength * columns; ++i)
      by_position[i] =
          counts[i / columns] ? by_position[i] / static_cast<double>(counts[i / columns]) : all[i % columns];
  }
};

void expect_near(const Tensor& got, const std::vector<double>& expected, const std::string& what) {
  const Values values = test::host_values(got);
  const double rounding = got.dtype == DType::bf16 ? 0x1p-8 : 1e-6;
  ASSERT_EQ(values.size(), expected.size()) << what;
  for (size_t i = 0; i < values.size(); ++i)
    EXPECT_NEAR(values[i], expected[i], rounding * (1 + std::abs(expected[i]))) << what << " at " << i;
}

/// Calibration means of states and weights, in both ways, of a model with such activations.
void check_means(DType activations) {
  Tested tested(Variant::reset, kLength, activations);
  const int site = tested.plan().num_sublayers() - 1, state = tested.plan().sites[site].sources.back();
  const int current = tested.plan().sites[site].num_sources() - 1;
  std::vector<SiteChange> changes = tested.clean();
  changes[site] = substitution(current, ContentKind::mean);
  changes[site].substitutions.push_back({0, Replaced::keys, {ContentKind::mean_per_position}});
  changes[site - 1] = weights_from(WeightSource::calibration);
  changes[site - 2] = weights_from(WeightSource::calibration_per_position);
  tested.prepare({changes});
  EXPECT_TRUE(tested.contents->needs().calibration());
  const std::vector<CalibrationBatch> batches = calibration_batches();
  // Once more: the second calibration starts from nothing.
  tested.contents->calibrate(tested.stream, feed(batches));
  tested.contents->calibrate(tested.stream, feed(batches));

  tested.run();
  tested.contents->snapshot(tested.stream, Sequences::separate().views());
  const auto resolved = tested.contents->resolve(tested.stream, changes, 0);
  const int64_t d = tested.model.config().hidden_size;
  const auto of_state = [&](int index) {
    return SlowMeans(tested, batches, d, [&] { return tested.model.state(index); });
  };
  const auto of_weights = [&](int index) {
    return SlowMeans(tested, batches, tested.plan().sites[index].num_sources(),
                     [&] { return tested.model.trace(index).weights; });
  };
  ASSERT_EQ(resolved[site].replaced.size(), 2u);
  EXPECT_EQ(resolved[site].replaced[0].source, current);
  EXPECT_EQ(resolved[site].replaced[1].what, Replaced::keys);
  expect_near(resolved[site].replaced[0].content, of_state(state).all, "state");
  expect_near(resolved[site].replaced[1].content, of_state(0).by_position, "state by position");
  expect_near(resolved[site - 1].weights, of_weights(site - 1).all, "weights");
  expect_near(resolved[site - 2].weights, of_weights(site - 2).by_position, "weights by position");
  EXPECT_NE(tested.run(resolved), tested.run());

  const std::vector<CalibrationBatch> none;
  EXPECT_THROW(tested.contents->calibrate(tested.stream, feed(none)), ConfigError);
}

TEST(Contents, CalibrationMeansAgreeWithFloat64AndLeaveOutPadding) {
  check_means(DType::f32);
  if (test::on_cuda()) check_means(DType::bf16);
}

// Routing that does not depend on content is what its mean is.
TEST(Contents, FrozenWeightsOfAScheduleChangeNothingButRounding) {
  Tested tested(Variant::cumulative);
  std::vector<SiteChange> changes = tested.clean();
  for (SiteChange& change : changes) change = weights_from(WeightSource::calibration);
  tested.prepare({changes});
  initialize_parameters(tested.model.layout(), 5, 1.5, tested.model.parameters());
  const std::vector<CalibrationBatch> batches = calibration_batches();
  tested.contents->calibrate(tested.stream, feed(batches));
  const Values expected = tested.run();
  tested.contents->snapshot(tested.stream, Sequences::separate().views());
  const Values got = tested.run(tested.contents->resolve(tested.stream, changes, 0));
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 2e-5);
}

TEST(Donors, NeverShareADocumentAndAreDistinct) {
  // Twelve sequences, each with a run of documents; neighbours overlap.
  Sequences list;
  for (int64_t i = 0; i < 12; ++i) {
    list.numbers.push_back(50 + i);
    list.lengths.push_back(kLength);
    list.documents.push_back({});
    for (int64_t document = 2 * i; document < 2 * i + 3 + i % 3; ++document)
      list.documents.back().push_back(document);
    list.starts.push_back({});
  }
  const std::vector<BatchSequence> batch = list.views();
  std::vector<BatchSequence> reversed(batch.rbegin(), batch.rend());
  std::set<std::vector<int>> orders;
  for (int i = 0; i < 12; ++i) {
    const std::vector<int> order = donor_order(batch, i, 4);
    std::set<int> eligible;
    for (int k = 0; k < 12; ++k) {
      std::vector<int64_t> common;
      std::ranges::set_intersection(list.documents[i], list.documents[k], std::back_inserter(common));
      if (common.empty()) eligible.insert(k);
    }
    EXPECT_EQ(order.size(), eligible.size()) << i;
    EXPECT_EQ(std::set<int>(order.begin(), order.end()), eligible) << i;
    EXPECT_GE(order.size(), 7u);
    // The order is that of the sequences' numbers, not of their places.
    std::vector<int> mirrored;
    for (const int place : donor_order(reversed, 11 - i, 4)) mirrored.push_back(11 - place);
    EXPECT_EQ(mirrored, order);
    EXPECT_NE(donor_order(batch, i, 5), order) << i;
    orders.insert(order);
  }
  EXPECT_EQ(orders.size(), 12u);
}

TEST(Donors, TooFewAreRefusedByName) {
  Sequences list = Sequences::separate(40);
  EXPECT_NO_THROW(check_donors(list.views(), 2));
  EXPECT_THROW(check_donors(list.views(), 3), ConfigError);
  list.documents[1] = {7, 100};  // shares document 100 with sequence 40
  try {
    check_donors(list.views(), 2);
    FAIL() << "accepted";
  } catch (const ConfigError& error) {
    const std::string text = error.what();
    for (const char* part : {"resample.donors is 2", "sequence 40", "only 1 of", "micro_batch", "shuffled"})
      EXPECT_NE(text.find(part), std::string::npos) << text;
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  }
}

TEST(Donors, GiveTheirCleanStatesAtTheSamePositions) {
  Tested tested(Variant::cumulative);
  const int site = tested.plan().num_sublayers() - 1;
  std::vector<SiteChange> changes = tested.clean();
  changes[site] = substitution(0, ContentKind::donor);
  changes[site].substitutions.push_back({1, Replaced::values, {ContentKind::donor}});
  changes[site - 1] = substitution(1, ContentKind::donor);  // the same state
  tested.prepare({changes});
  EXPECT_EQ(tested.contents->needs().donor_slots, 2);
  tested.run();
  Sequences list = Sequences::separate();
  list.lengths = {kLength, 3, 1};
  const std::vector<BatchSequence> batch = list.views();
  tested.contents->snapshot(tested.stream, batch);
  const std::vector<int>& sources = tested.plan().sites[site].sources;
  const std::vector<Values> clean = {test::host_values(tested.model.state(sources[0])),
                                     test::host_values(tested.model.state(sources[1]))};
  // A pass that overwrites every state.
  tested.batch = random_batch(kBatch, kLength, 61, 99);
  tested.run();

  const std::vector<std::vector<int64_t>> positions = {{0, 1, 2, 3, 4}, {0, 1, 2, 1, 2}, {0, 0, 0, 0, 0}};
  const int64_t d = tested.model.config().hidden_size;
  for (int64_t repeat = 0; repeat < 2; ++repeat) {
    const auto resolved = tested.contents->resolve(tested.stream, changes, repeat);
    EXPECT_EQ(resolved[site - 1].replaced[0].content.pointer, resolved[site].replaced[1].content.pointer);
    for (int source = 0; source < 2; ++source) {
      const Values got = test::host_values(resolved[site].replaced[source].content);
      ASSERT_EQ(got.size(), static_cast<size_t>(kTokens * d));
      for (int64_t i = 0; i < kBatch; ++i) {
        const int donor = donor_order(batch, static_cast<int>(i), 1)[repeat];
        for (int64_t t = 0; t < kLength; ++t)
          for (int64_t c = 0; c < d; ++c)
            ASSERT_EQ(got[(i * kLength + t) * d + c],
                      clean[source][(donor * kLength + positions[donor][t]) * d + c])
                << "sequence " << i << " position " << t << " repeat " << repeat;
      }
    }
  }
}

TEST(Donors, WithTheSameTokensChangeNoBit) {
  // Matrix products round a row alike at every multiple of this.
  constexpr int64_t kAligned = 48;
  for (const Variant variant : {Variant::cumulative, Variant::reset, Variant::kimi}) {
    Tested tested(variant, kAligned);
    std::vector<SiteChange> changes = tested.clean();
    for (size_t site = 0; site < changes.size(); ++site)
      for (int j = 0; j < tested.plan().sites[site].num_sources(); ++j)
        changes[site].substitutions.push_back({j, Replaced::both, {ContentKind::donor}});
    tested.prepare({changes});
    for (int64_t i = 0; i < kBatch * kAligned; ++i)
      tested.batch.inputs[i] = tested.batch.inputs[i % kAligned];
    const Values expected = tested.run();
    Sequences list = Sequences::separate();
    list.lengths.assign(kBatch, kAligned);
    tested.contents->snapshot(tested.stream, list.views());
    for (int64_t repeat = 0; repeat < 2; ++repeat)
      EXPECT_EQ(tested.run(tested.contents->resolve(tested.stream, changes, repeat)), expected);
  }
}

TEST(Contents, HeldWeightsAreTheCleanRunsWhateverElseRuns) {
  Tested tested(Variant::kimi);
  std::vector<SiteChange> changes = tested.clean(), other = tested.clean();
  for (SiteChange& change : changes) change = weights_from(WeightSource::clean);
  for (size_t site = 0; site < other.size(); ++site)
    other[site].scale.assign(tested.plan().sites[site].sources.size(), 0.5f);
  tested.prepare({changes, other});
  EXPECT_FALSE(tested.contents->needs().calibration());
  const Values expected = tested.run();
  tested.contents->snapshot(tested.stream, Sequences::separate().views());
  tested.run(tested.contents->resolve(tested.stream, other, 0));
  const Values got = tested.run(tested.contents->resolve(tested.stream, changes, 0));
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_NEAR(got[i], expected[i], 2e-5 * (1 + std::abs(expected[i])));
}

// Sources in another order, contents by pointer: a site's mix does not depend on the order.
TEST(Contents, PermutedSourcesChangeNothingButRounding) {
  Tested tested(Variant::cumulative);
  std::vector<SiteChange> changes = tested.clean();
  for (size_t site = 0; site < changes.size(); ++site) {
    const int others = tested.plan().sites[site].num_sources() - 1;
    for (int j = 0; j < others; ++j)
      changes[site].substitutions.push_back({j, Replaced::both, {ContentKind::source, (j + 1) % others}});
  }
  tested.prepare({changes});
  const Values expected = tested.run();
  tested.contents->snapshot(tested.stream, Sequences::separate().views());
  const Values got = tested.run(tested.contents->resolve(tested.stream, changes, 0));
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_NEAR(got[i], expected[i], 1e-4 * (1 + std::abs(expected[i])));
}

TEST(Contents, TokenMasksAreByPositionAndDocument) {
  Tested tested(Variant::cumulative);
  const std::vector<TokenRange> ranges = {{TokenFilter::position_0},
                                          {TokenFilter::not_position_0, 0, 2},
                                          {TokenFilter::document_start},
                                          {TokenFilter::document_start, 1},
                                          {TokenFilter::all, 2, 3}};
  std::vector<std::vector<SiteChange>> lists;
  for (const TokenRange& range : ranges) {
    lists.push_back(tested.clean());
    lists.back()[3] = substitution(0, ContentKind::source);
    lists.back()[3].substitutions[0].content.source = 1;
    lists.back()[3].tokens = range;
  }
  tested.prepare(lists);
  tested.run();
  Sequences list = Sequences::separate();
  list.starts = {{0, 3}, {}, {4}};
  tested.contents->snapshot(tested.stream, list.views());
  const auto mask = [&](size_t i) {
    const Tensor tokens = tested.contents->resolve(tested.stream, lists[i], 0)[3].tokens;
    const HostView view(tested.stream, tokens);
    const int32_t* values = view.tensor().data<int32_t>();
    std::string text;
    for (int64_t t = 0; t < tokens.numel(); ++t) text += values[t] ? '1' : '0';
    return text;
  };
  EXPECT_EQ(mask(0), "100001000010000");
  EXPECT_EQ(mask(1), "011000110001100");
  EXPECT_EQ(mask(2), "100100000000001");
  EXPECT_EQ(mask(3), "000100000000001");
  EXPECT_EQ(mask(4), "001100011000110");
}

}  // namespace
}  // namespace depthroute
