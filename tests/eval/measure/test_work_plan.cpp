// Work dealt to processes: everything is measured once, and what comes out does not depend on how many there
// are, bit for bit.
#include <gtest/gtest.h>

#include <cmath>
#include <mutex>
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
        EXPECT_TRUE(part.at(i).size == 3 || part.at(i).size == 4);
        next += part.at(i).size;
      }
    }
    EXPECT_EQ(next, 23);
  }
}

/// About equal work for all, everything once, and a clean pass wherever states of another batch or of a later
/// site would be needed.
TEST(WorkPlan, EverythingOnceInOrderAndEvenly) {
  for (int64_t sequences : {1, 2, 7, 9})
    for (int comparisons : {0, 1, 2, 13, 90})
      for (int ranks : {1, 2, 3, 5, 8}) {
        SCOPED_TRACE(testing::Message() << sequences << " " << comparisons << " " << ranks);
        std::vector<Comparison> list(static_cast<size_t>(comparisons));
        for (int i = 0; i < comparisons; ++i) list[i].first_site = (5 * i) % 7;
        const std::vector<double> costs(list.size(), 0.75);
        const BatchRange batches = BatchRange::all(sequences, 2);
        const auto dealt = plan_units(all_missing(batches, list.size()), list, costs, ranks);
        ASSERT_EQ(dealt.size(), static_cast<size_t>(ranks));
        std::set<std::pair<int64_t, int>> seen;
        std::set<int64_t> clean;
        double largest = 0, total = 0, longest_unit = 0;
        for (const std::vector<Unit>& units : dealt) {
          double work = 0;
          int64_t batch = -1;
          int site = 7;
          for (const Unit& unit : units) {
            if (unit.starts) site = 7;
            EXPECT_TRUE(unit.starts || unit.batch == batch);
            EXPECT_TRUE(unit.starts || !unit.clean);
            batch = unit.batch;
            if (unit.clean) {
              EXPECT_TRUE(clean.insert(unit.batch).second);
            }
            double cost = unit.starts ? 1 : 0;
            for (const int index : unit.comparisons) {
              EXPECT_TRUE(seen.insert({unit.batch, index}).second);
              EXPECT_LE(list[index].first_site, site);
              site = list[index].first_site;
              cost += costs[index];
            }
            longest_unit = std::max(longest_unit, cost);
            work += cost;
          }
          largest = std::max(largest, work);
          total += work;
        }
        EXPECT_EQ(clean.size(), static_cast<size_t>(batches.count));
        EXPECT_EQ(seen.size(), static_cast<size_t>(batches.count * comparisons));
        EXPECT_LE(longest_unit, kUnitPasses + 2);
        EXPECT_LE(largest, total / ranks + 1.5 * longest_unit + 1);
      }
}

/// What all ranks of a measurement give.
struct Collected {
  std::mutex mutex;
  std::vector<UnitRecord> units;
  double done = 0, total = 0;
};

/// Every kind of cell, in batches of 2.
void collect(World& world, const TokenStream& tokens, const std::string& model, int64_t sequences,
             Collected& out, Evaluation* evaluation = nullptr) {
  EvalConfig config = session_config(model);
  const DepthPlan plan = make_depth_plan(open_eval_model(config, config.model.from).config);
  GridConfig grid;
  grid.edges = EdgeChoice::all;
  grid.interventions = {Intervention::mask};
  const auto cells = resolve_cells({grid}, {}, plan);
  const auto known_answers = make_known_answers(plan, {});
  std::vector<Comparison> list = comparisons_of(cells);
  for (const Comparison& comparison : comparisons_of(known_answers)) list.push_back(comparison);
  EvalSession session(config, needs_of(plan, list));
  const Sequences windows = session.windows(tokens, sequences);
  const BatchRange batches = BatchRange::all(sequences, 2);
  measure(
      world, *session.evaluator, session.stream, {windows, batches, list, {.all_weights = true}},
      all_missing(batches, list.size()),
      [&](UnitRecord&& unit) {
        const std::lock_guard<std::mutex> lock(out.mutex);
        out.units.push_back(std::move(unit));
      },
      [&](double done, double total) {
        ASSERT_TRUE(world.is_rank_0());
        EXPECT_GE(done, out.done);
        out.done = done;
        out.total = total;
      });
  world.barrier();
  if (world.is_rank_0() && evaluation) *evaluation = assemble(windows, batches, list.size(), out.units);
}

class Processes : public testing::TestWithParam<int> {
 protected:
  Processes() { write_shard(folder_ / "tokens.bin", random_tokens(60)); }
  TokenStream tokens() const { return TokenStream({folder_ / "tokens.bin"}, 97); }
  TempFolder folder_;
};

TEST_P(Processes, GiveTheBitsOfOne) {
  const TokenStream stream = tokens();
  Collected one, several;
  Evaluation alone, together;
  collect(*make_single_world(), stream, "cumulative", 5, one, &alone);  // batches of 1, 2, 2
  EXPECT_NEAR(one.done, one.total, 1e-9 * one.total);
  testing_support::as_processes(GetParam(), [&](World& world) {
    collect(world, stream, "cumulative", 5, several, world.is_rank_0() ? &together : nullptr);
  });
  EXPECT_EQ(together.sequences, 5);
  for (size_t i = 0; i < std::size(kCleanColumns); ++i)
    EXPECT_TRUE(same_bits(together.clean.values[i], alone.clean.values[i])) << kCleanColumns[i].name;
  ASSERT_EQ(together.outcomes.size(), alone.outcomes.size());
  for (size_t k = 0; k < alone.outcomes.size(); ++k)
    for (size_t i = 0; i < std::size(kCellColumns); ++i)
      EXPECT_TRUE(same_bits(together.outcomes[k].values[i], alone.outcomes[k].values[i]))
          << k << " " << kCellColumns[i].name;
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
  EXPECT_LT(none.units.size(), 5u);
}

INSTANTIATE_TEST_SUITE_P(Counts, Processes, testing::Values(2, 3, 5, 8), testing::PrintToStringParamName());

}  // namespace
}  // namespace depthroute
