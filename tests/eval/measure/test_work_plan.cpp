// Work dealt to processes: everything is measured once, and what comes out does not depend on how many there
// are, bit for bit.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <set>

#include "configs/base/error.h"
#include "eval/cells/grid.h"
#include "eval/cells/known_answers.h"
#include "eval/measure/work_plan.h"
#include "tests/eval/eval_fixture.h"
#include "tests/train/thread_world.h"

namespace depthroute {
namespace {

double noise(uint64_t i) { return static_cast<double>(random_below(11, i, 1000003)) / 1000003; }

BatchRecord example_record() {
  BatchRecord record;
  record.batch = {6, 2};
  record.clean_nll = {1.5f, 2.5f, -0.0f, 4.0f};
  record.outcomes.resize(3);
  record.outcomes[0] = {{1, 2}, {3, std::nan("")}, {0, 1}, std::nan("")};
  record.outcomes[2] = {{-1, 1e300}, {0.1, 0.2}, {2, 0}, 7};
  record.routing.tokens = 4;
  record.routing.moments.resize(5);
  for (size_t i = 0; i < 5; ++i) record.routing.moments[i] = {4, noise(i), noise(i + 9), 0.25, 0.75};
  record.routing.entropy = {0.5, 0.25};
  record.routing.weights = {1, 2, 65535};
  return record;
}

TEST(Record, SurvivesItsBytesAndNothingElseDoes) {
  const std::string bytes = to_bytes(example_record());
  EXPECT_EQ(to_bytes(record_from_bytes(bytes)), bytes);
  for (size_t size = 0; size < bytes.size(); ++size)
    EXPECT_THROW(record_from_bytes(bytes.substr(0, size)), DataError) << size;
  EXPECT_THROW(record_from_bytes(bytes + "x"), DataError);
  // A count that lies is noticed before memory is asked for.
  for (size_t at = 0; at + 8 <= bytes.size(); at += 4) {
    std::string lying = bytes;
    lying.replace(at, 8, 8, '\x7f');
    try {
      record_from_bytes(lying);
    } catch (const DataError&) {
    }
  }
}

TEST(Moments, OfBatchesAreThoseOfAllTokens) {
  for (const std::vector<int>& cut : {std::vector<int>{1, 1, 98}, {50, 50}, {33, 0, 1, 66}, {100}}) {
    WeightMoments all, joined, constant;
    uint64_t next = 0;
    for (int size : cut) {
      WeightMoments batch, same;
      for (int i = 0; i < size; ++i, ++next) {
        all.add(noise(next));
        batch.add(noise(next));
        same.add(0.1);
      }
      joined.add(batch);
      constant.add(same);
    }
    EXPECT_EQ(joined.count, 100);
    EXPECT_NEAR(joined.mean, all.mean, 1e-15);
    EXPECT_NEAR(joined.std(), all.std(), 1e-14);
    EXPECT_EQ(joined.lowest, all.lowest);
    EXPECT_EQ(joined.highest, all.highest);
    EXPECT_EQ(constant.mean, 0.1);
    EXPECT_EQ(constant.std(), 0.0);
  }
}

TEST(Batches, PartsAreRunsOfWholeBatchesThatFollowOneAnother) {
  const BatchRange all = BatchRange::all(23, 4);
  ASSERT_EQ(all.count, 6);
  for (int64_t parts = 1; parts <= all.count; ++parts) {
    int64_t next = 0;
    for (int64_t k = 0; k < parts; ++k) {
      const BatchRange part = all.part(k, parts);
      EXPECT_GE(part.count, 6 / parts);
      EXPECT_LE(part.count, 6 / parts + 1);
      for (int64_t i = 0; i < part.count; ++i) {
        EXPECT_EQ(part.at(i).first, next);
        EXPECT_EQ(part.at(i).size, next == 20 ? 3 : 4);
        next += part.at(i).size;
      }
    }
    EXPECT_EQ(next, 23);
  }
}

TEST(WorkPlan, EverythingOnceInOrderInTheShortestTime) {
  for (int64_t sequences : {1, 2, 7, 9})
    for (int comparisons : {0, 1, 2, 13})
      for (int processes : {1, 2, 3, 5, 8}) {
        SCOPED_TRACE(testing::Message() << sequences << " " << comparisons << " " << processes);
        std::vector<Comparison> list(static_cast<size_t>(comparisons));
        for (int i = 0; i < comparisons; ++i) list[i].first_site = (5 * i) % 7;
        const std::vector<double> costs(list.size(), 0.75);
        const BatchRange batches = BatchRange::all(sequences, 2);
        const WorkPlan plan(batches, list, costs, processes);
        const size_t chunks = plan.chunks().size();
        std::set<std::pair<int64_t, int>> seen;
        int64_t last = -1, units = 0;
        for (int64_t round = 0; round < plan.rounds(); ++round)
          for (int process = 0; process < processes; ++process) {
            const auto unit = plan.unit(round, process);
            if (!unit) continue;
            const int64_t place = unit->batch.first * 100 + unit->chunk;
            EXPECT_GT(place, last);
            last = place;
            ++units;
            int site = 7;
            for (int index : plan.chunks()[unit->chunk]) {
              EXPECT_TRUE(seen.insert({unit->batch.first, index}).second);
              EXPECT_LE(list[index].first_site, site);
              site = list[index].first_site;
            }
          }
        EXPECT_EQ(units, batches.count * static_cast<int64_t>(chunks));
        EXPECT_EQ(seen.size(), static_cast<size_t>(batches.count * comparisons));
        EXPECT_FALSE(plan.unit(plan.rounds(), 0));
        EXPECT_TRUE(processes > 1 || chunks == 1);
        const double sum = 0.75 * comparisons;
        const auto time = [&](double c) {
          return std::ceil(static_cast<double>(batches.count) * c / processes) * (1 + sum / c);
        };
        for (int other = 1; other <= std::min(processes, std::max(comparisons, 1)); ++other)
          EXPECT_LE(time(static_cast<double>(chunks)), time(other)) << chunks << " " << other;
      }
}

/// What rank 0 collects.
struct Collected {
  Evaluation evaluation;
  std::vector<std::string> records;
  double done = 0, total = 0;
};

void collect(World& world, const TokenStream& tokens, const std::string& model, int64_t sequences,
             Collected& out) {
  EvalSession session(session_config(model));
  GridConfig grid;
  grid.edges = EdgeChoice::all;
  grid.interventions = {Intervention::mask};
  const auto cells = resolve_cells({grid}, {}, session.model->plan());
  const auto known_answers = make_known_answers(session.model->plan(), {});
  std::vector<Comparison> list;
  for (const Cell& cell : cells)
    if (cell.runs()) list.push_back({cell.name, cell.first_site, cell.site_changes});
  for (const KnownAnswer& known_answer : known_answers)
    list.push_back({known_answer.name, known_answer.first_site, known_answer.site_changes});
  Evaluation evaluation;
  evaluation.seq_len = 7;
  evaluation.outcomes.resize(list.size());
  measure(
      world, *session.evaluator, session.stream, {tokens, BatchRange::all(sequences, 2), list, true},
      [&](BatchRecord&& record) {
        ASSERT_TRUE(world.is_rank_0());
        evaluation.append(record);
        out.records.push_back(to_bytes(record));
      },
      [&](double done, double total) {
        EXPECT_GE(done, out.done);
        out.done = done;
        out.total = total;
      });
  if (world.is_rank_0()) out.evaluation = std::move(evaluation);
}

class Processes : public testing::TestWithParam<int> {
 protected:
  Processes() { write_shard(folder_ / "tokens.bin", random_tokens(60)); }
  TokenStream tokens() const { return TokenStream({folder_ / "tokens.bin"}, 97); }
  TempFolder folder_;
};

TEST_P(Processes, GiveTheBitsOfOne) {
  const TokenStream stream = tokens();
  Collected one;
  collect(*make_single_world(), stream, "cumulative", 5, one);  // batches of 2, 2, 1
  ASSERT_EQ(one.records.size(), 3u);
  EXPECT_NEAR(one.done, one.total, 1e-9 * one.total);
  Collected several;
  testing_support::as_processes(GetParam(),
                                [&](World& world) { collect(world, stream, "cumulative", 5, several); });
  EXPECT_EQ(several.records, one.records);
  EXPECT_EQ(several.evaluation.clean_nll, one.evaluation.clean_nll);
  EXPECT_EQ(several.evaluation.sequences, 5);
  EXPECT_NEAR(several.done, several.total, 1e-9 * several.total);
}

TEST_P(Processes, EndTogetherWhenOneFails) {
  std::vector<int32_t> damaged = random_tokens(60);
  damaged[20] = 98;  // read with the second batch
  write_shard(folder_ / "tokens.bin", damaged, 300);
  const TokenStream stream = tokens();
  Collected none;
  try {
    testing_support::as_processes(GetParam(), [&](World& world) { collect(world, stream, "kimi", 5, none); });
    ADD_FAILURE() << "nobody noticed";
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("tokens.bin"), std::string::npos) << error.what();
  }
  EXPECT_LT(none.records.size(), 2u);
}

INSTANTIATE_TEST_SUITE_P(Counts, Processes, testing::Values(2, 3, 5, 8), testing::PrintToStringParamName());

}  // namespace
}  // namespace depthroute
