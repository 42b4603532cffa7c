// Unions of cells: what is combined, what is refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "configs/base/error.h"
#include "tests/eval/cells/cells_fixture.h"

namespace depthroute {
namespace {

using enum ContentKind;

/// Cells a, b, ... of layers.5.mlp, and their union.
std::vector<CellConfig> with_union(std::vector<CellConfig> members) {
  CellConfig whole;
  whole.name = "cell";
  for (size_t i = 0; i < members.size(); ++i) {
    members[i].name = std::string(1, static_cast<char>('a' + i));
    whole.union_of.push_back(members[i].name);
  }
  members.push_back(whole);
  return members;
}

Cell union_of(const std::vector<CellConfig>& members, const DepthPlan& plan) {
  return resolve_cells({}, with_union(members), plan).back();
}

CellConfig at_last_mlp(Intervention intervention, std::vector<int64_t> positions) {
  return single(intervention, std::move(positions), {5}, {Sublayer::mlp});
}

TEST(Unions, MakeTheChangesOfAllMembers) {
  const DepthPlan plan = plan_of(Variant::cumulative, 6, 4);
  CellConfig values_only = at_last_mlp(Intervention::mean, {2});
  values_only.replace = Replace::values;
  CellConfig bias = at_last_mlp(Intervention::bias, {3});
  bias.value = 2;
  const Cell cell =
      union_of({at_last_mlp(Intervention::mask, {0}), values_only, bias, at_last_mlp(Intervention::zero, {1}),
                single(Intervention::hold, {}, {2}, {Sublayer::attn})},
               plan);
  const SiteChange& change = cell.site_changes[11];
  EXPECT_EQ(change.offset, (std::vector<float>{kDropped, 0, 0, 2}));
  EXPECT_EQ(change.scale, (std::vector<float>{1, 0, 1, 1}));
  EXPECT_EQ(change.substitutions, (std::vector<Substitution>{{2, Replaced::values, {mean}}}));
  EXPECT_EQ(cell.site_changes[4].weights, WeightSource::clean);
  EXPECT_EQ(cell.sites_ablated, 2);
  EXPECT_EQ(cell.first_site, 4);
  EXPECT_EQ(cell.sources.size(), 4u + plan.sites[4].sources.size());
  EXPECT_EQ(cell.intervention_name(), "union");
  EXPECT_FALSE(cell.intervention);
  EXPECT_EQ(cell.union_of, "a + b + c + d + e");
  // The same as one cell with both sources, and measured with it.
  EXPECT_EQ(union_of({at_last_mlp(Intervention::mask, {0}), at_last_mlp(Intervention::mask, {1})}, plan)
                .canonical(),
            resolve_one(at_last_mlp(Intervention::mask, {0, 1}), plan).canonical());
  // Weights held while values change.
  const Cell held =
      union_of({values_only, single(Intervention::hold, {}, {4, 5}, {Sublayer::attn, Sublayer::mlp})}, plan);
  EXPECT_EQ(held.site_changes[11].weights, WeightSource::clean);
  EXPECT_EQ(held.site_changes[11].substitutions.size(), 1u);
  EXPECT_EQ(held.sites_ablated, 4);
}

TEST(Unions, SkipSitesWhereNothingWouldBeLeft) {
  const DepthPlan plan = plan_of(Variant::cumulative, 6, 4);
  const Cell cell =
      union_of({at_last_mlp(Intervention::mask, {0, 1}), at_last_mlp(Intervention::zero, {2, 3}),
                single(Intervention::permute, {0, 1}, {0}, {Sublayer::attn})},
               plan);
  EXPECT_FALSE(cell.runs());
  EXPECT_EQ(cell.sites_skipped, 1);
  EXPECT_EQ(cell.sites_absent, 1);
  EXPECT_EQ(cell.skipped_sources, (std::vector<Edge>{{11, 0}, {11, 1}, {11, 2}, {11, 3}}));
  EXPECT_EQ(cell.canonical(), "");
  EXPECT_EQ(cell.first_site, static_cast<int>(plan.sites.size()));
}

TEST(Unions, MembersMayBeCellsOfGridsAndComeLater) {
  const DepthPlan plan = plan_of(Variant::cumulative, 6, 4);
  std::vector<CellConfig> configs(2);
  configs[0].name = "pair";
  configs[0].union_of = {"mask/embedding/mlp/late", "later"};
  configs[1] = single(Intervention::resample, {1}, {5}, {Sublayer::mlp});
  configs[1].name = "later";
  const auto cells = resolve_cells({grid({Intervention::mask})}, configs, plan, {6, 1});
  EXPECT_EQ(cells[24].name, "pair");
  EXPECT_EQ(cells[24].sites_ablated, 2);
  EXPECT_EQ(cells[24].repeats, 6);
}

TEST(Unions, MembersThatExcludeEachOtherAreRefusedByName) {
  const DepthPlan plan = plan_of(Variant::cumulative, 6, 4);
  const auto refused = [&](const CellConfig& a, const CellConfig& b, const std::string& why) {
    for (const auto& members : {std::vector{a, b}, std::vector{b, a}}) {
      try {
        union_of(members, plan);
        ADD_FAILURE() << "accepted: " << why;
      } catch (const ConfigError& error) {
        const std::string text = error.what();
        for (const std::string& part :
             {std::string("'cell'"), std::string("'a' and 'b'"), std::string("layers.5.mlp"), why})
          EXPECT_NE(text.find(part), std::string::npos) << text;
        EXPECT_EQ(text.find('\n'), std::string::npos) << text;
      }
    }
  };
  const CellConfig mask = at_last_mlp(Intervention::mask, {0, 1}), hold = at_last_mlp(Intervention::hold, {});
  refused(mask, at_last_mlp(Intervention::mean, {1}), "both change source 1");
  refused(mask, hold, "set all weights");
  refused(at_last_mlp(Intervention::mean, {1}), hold, "replace: values");
  refused(at_last_mlp(Intervention::uniform, {}), hold, "both set all weights");
  CellConfig others = at_last_mlp(Intervention::mask, {2});
  others.tokens = TokenFilter::position_0;
  refused(mask, others, "different tokens");
}

TEST(Unions, NameCellsThatExistAndAreNoUnions) {
  const DepthPlan plan = plan_of(Variant::cumulative, 6, 4);
  std::vector<CellConfig> configs =
      with_union({at_last_mlp(Intervention::mask, {0}), at_last_mlp(Intervention::mask, {1})});
  const auto message = [&](const std::string& member) {
    configs.back().union_of = {"a", member};
    try {
      resolve_cells({grid({Intervention::mask})}, configs, plan);
    } catch (const ConfigError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_NE(message("mask/embedding/mlp/lte").find("did you mean 'mask/embedding/mlp/late'"),
            std::string::npos);
  EXPECT_NE(message("cell").find("itself a union"), std::string::npos);
  EXPECT_EQ(message("b"), "");
}

}  // namespace
}  // namespace depthroute
