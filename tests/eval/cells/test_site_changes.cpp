// What cells set at their sites, and its canonical text.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "configs/base/error.h"
#include "eval/cells/known_answers.h"
#include "tests/eval/cells/cells_fixture.h"

namespace depthroute {
namespace {

using enum ContentKind;

TEST(Cells, ContentsAndWeightsAreSymbolic) {
  const DepthPlan plan = plan_of(Variant::reset, 6, 4);
  const int site = 11;  // layers.5.mlp, four sources
  const auto change = [&](CellConfig config) { return resolve_one(config, plan).site_changes.at(site); };
  CellConfig config = single(Intervention::mean, {0, 2}, {5}, {Sublayer::mlp});
  EXPECT_EQ(change(config).substitutions,
            (std::vector<Substitution>{{0, Replaced::both, {mean}}, {2, Replaced::both, {mean}}}));
  config.average = Average::position;
  config.replace = Replace::keys;
  EXPECT_EQ(change(config).substitutions[1], (Substitution{2, Replaced::keys, {mean_per_position}}));
  config.intervention = Intervention::resample;
  EXPECT_EQ(change(config).substitutions[0], (Substitution{0, Replaced::keys, {donor}}));
  config = single(Intervention::permute, {0, 1, 3}, {5}, {Sublayer::mlp});
  EXPECT_EQ(change(config).substitutions, (std::vector<Substitution>{{0, Replaced::values, {source, 1}},
                                                                     {1, Replaced::values, {source, 3}},
                                                                     {3, Replaced::values, {source, 0}}}));
  config = single(Intervention::freeze, {}, {5}, {Sublayer::mlp});
  EXPECT_EQ(change(config).weights, WeightSource::calibration);
  config.average = Average::position;
  EXPECT_EQ(change(config).weights, WeightSource::calibration_per_position);
  config.intervention = Intervention::hold;
  EXPECT_EQ(change(config).weights, WeightSource::clean);
  EXPECT_TRUE(change(config).learned_logits);
}

// Replacing every source is an effect; masking every source is none. What has nothing to change is absent.
TEST(Cells, SitesThatInterventionsOnContentsLeaveAlone) {
  const DepthPlan plan = plan_of(Variant::cumulative, 6, 4), kimi = plan_of(Variant::kimi, 6, 4);
  const auto counts = [](const Cell& cell) {
    return std::vector<int>{cell.sites_ablated, cell.sites_skipped, cell.sites_absent};
  };
  for (const Intervention intervention : {Intervention::mean, Intervention::resample}) {
    CellConfig all = single(intervention, {}, {3}, {Sublayer::mlp});
    all.source_families = values<Family>();
    EXPECT_EQ(counts(resolve_one(all, plan)), (std::vector<int>{1, 0, 0}));
    // kimi's first site has one source: its content matters, its key does not.
    all.layers = {0};
    all.sublayers = {Sublayer::attn};
    EXPECT_EQ(counts(resolve_one(all, kimi)), (std::vector<int>{1, 0, 0}));
    all.replace = Replace::keys;
    EXPECT_EQ(counts(resolve_one(all, kimi)), (std::vector<int>{0, 0, 1}));
  }
  for (const Intervention intervention : {Intervention::freeze, Intervention::hold})
    EXPECT_EQ(counts(resolve_one(single(intervention, {}, {0}, {Sublayer::attn, Sublayer::mlp}), kimi)),
              (std::vector<int>{1, 0, 1}));
  // Site 0 holds the embedding twice; layers.4.attn holds S_8 twice.
  EXPECT_EQ(counts(resolve_one(single(Intervention::permute, {0, 1}, {0}, {Sublayer::attn}), plan)),
            (std::vector<int>{0, 0, 1}));
  EXPECT_EQ(counts(resolve_one(single(Intervention::permute, {0, 3}, {4}, {Sublayer::attn}), plan)),
            (std::vector<int>{1, 0, 0}));
  EXPECT_EQ(counts(resolve_one(single(Intervention::permute, {2, 3}, {4}, {Sublayer::attn}), plan)),
            (std::vector<int>{0, 0, 1}));
  const Cell mean = resolve_one(single(Intervention::mean, {3}, {4}, {Sublayer::attn}), plan);
  EXPECT_EQ(mean.sites_duplicate, 1);
}

TEST(Cells, DescribeTheirOptions) {
  const DepthPlan plan = plan_of(Variant::cumulative);
  CellConfig config = single(Intervention::mean, {0}, {1}, {Sublayer::mlp});
  config.tokens = TokenFilter::not_position_0;
  config.first_token = 2;
  config.last_token = 5;
  config.per_token = true;
  Cell cell = resolve_one(config, plan);
  EXPECT_EQ(cell.replace, "both");
  EXPECT_EQ(cell.average, "all");
  EXPECT_EQ(cell.tokens, "not_position_0 2-5");
  EXPECT_EQ(cell.site_changes[3].tokens, (TokenRange{TokenFilter::not_position_0, 2, 5}));
  EXPECT_TRUE(cell.per_token);
  EXPECT_EQ(cell.repeats, 1);
  EXPECT_EQ(cell.site, -1);
  cell = resolve_one(single(Intervention::mask, {0}, {1}, {Sublayer::mlp}), plan);
  EXPECT_EQ(cell.replace + cell.average + cell.union_of, "");
  EXPECT_EQ(cell.tokens, "all");
  config = single(Intervention::resample, {0}, {1}, {Sublayer::mlp});
  EXPECT_EQ(resolve_cells({}, {config}, plan, {7, 3}).at(0).repeats, 7);
}

TEST(CanonicalText, IsEqualForEqualInterventions) {
  const DepthPlan plan = plan_of(Variant::cumulative, 6, 4);
  const auto text = [&](const CellConfig& config) { return resolve_one(config, plan).canonical(); };
  GridConfig uniform = grid({Intervention::uniform});
  uniform.families.clear();
  EXPECT_EQ(resolve_cells({uniform}, {}, plan)[0].canonical(),
            text(single(Intervention::uniform, {}, {0, 1}, {Sublayer::attn})));
  // layers.5.mlp: S0, S4, S8, S11. A family, its positions, and what is left of the others.
  CellConfig family = single(Intervention::mask, {}, {5}, {Sublayer::mlp});
  family.source_families = {Family::older, Family::recent};
  const std::string masked = text(family);
  EXPECT_EQ(text(single(Intervention::mask, {2, 1}, {5}, {Sublayer::mlp})), masked);
  EXPECT_EQ(text(single(Intervention::only, {0, 3}, {5}, {Sublayer::mlp})), masked);
  CellConfig named = single(Intervention::mask, {1, 2}, {5}, {Sublayer::mlp});
  named.name = "another name";
  EXPECT_EQ(text(named), masked);
  CellConfig first = named, by_position = named;
  first.tokens = TokenFilter::position_0;
  by_position.last_token = 0;
  EXPECT_EQ(text(first), text(by_position));
  first.tokens = TokenFilter::not_position_0;
  by_position.first_token = 1;
  by_position.last_token.reset();
  EXPECT_EQ(text(first), text(by_position));
  EXPECT_NE(text(first), masked);
  CellConfig schedule = single(Intervention::schedule, {}, {5}, {Sublayer::mlp});
  schedule.value = 0;
  EXPECT_EQ(text(schedule), text(single(Intervention::uniform, {}, {5}, {Sublayer::mlp})));
}

TEST(CanonicalText, DiffersForEveryDifference) {
  const DepthPlan plan = plan_of(Variant::cumulative, 6, 4);
  std::vector<CellConfig> configs;
  for (const Intervention intervention : values<Intervention>()) {
    const bool whole = acts_on_all_sources(intervention);
    CellConfig config = single(intervention, whole ? std::vector<int64_t>{} : std::vector<int64_t>{0, 1}, {5},
                               {Sublayer::mlp});
    config.value = 1.5;
    configs.push_back(config);
    config.tokens = TokenFilter::position_0;
    configs.push_back(config);
    config.tokens = TokenFilter::all;
    config.last_token = 3;
    configs.push_back(config);
    config.last_token.reset();
    config.layers = {4};
    configs.push_back(config);
    config.layers = {5};
    if (needs_calibration(intervention)) {
      config.average = Average::position;
      configs.push_back(config);
    }
    if (replaces_content(intervention)) {
      config.replace = Replace::keys;
      configs.push_back(config);
    }
  }
  std::vector<std::string> texts;
  for (const CellConfig& config : configs) {
    texts.push_back(resolve_one(config, plan).canonical());
    EXPECT_FALSE(texts.back().empty());
  }
  const CellConfig resample = single(Intervention::resample, {0, 1}, {5}, {Sublayer::mlp});
  texts.push_back(resolve_cells({}, {resample}, plan, {6, 1}).at(0).canonical());
  texts.push_back(resolve_cells({}, {resample}, plan, {5, 2}).at(0).canonical());
  std::sort(texts.begin(), texts.end());
  EXPECT_EQ(std::adjacent_find(texts.begin(), texts.end()), texts.end())
      << *std::adjacent_find(texts.begin(), texts.end());
}

TEST(KnownAnswers, DependOnTheModelAndThePrecision) {
  const DepthPlan plan = plan_of(Variant::cumulative, 6, 4);
  const std::vector<double> bias = {3.0};
  const auto judged = [&](std::span<const double> recency_bias, const KnownAnswerOptions& options) {
    std::vector<std::string> names;
    for (const KnownAnswer& known_answer : make_known_answers(plan, recency_bias, options))
      names.push_back(known_answer.name + (known_answer.judged() ? "" : "?"));
    return names;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(judged({}, {}), (Names{"identity", "identity_from_middle", "scale_all_by_2?",
                                   "uniform_everywhere?", "hold_everywhere", "permuted_sources"}));
  EXPECT_EQ(judged(bias, {.fp32 = false, .calibrated = true}),
            (Names{"identity", "identity_from_middle", "scale_all_by_2?", "uniform_everywhere?",
                   "hold_everywhere?", "permuted_sources?", "schedule", "freeze?"}));
  EXPECT_EQ(make_known_answers(plan_of(Variant::additive), {}).size(), 2u);
}

}  // namespace
}  // namespace depthroute
