// Cells against the depth plan: what is touched, what is counted, what is refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "configs/base/error.h"
#include "tests/eval/cells/cells_fixture.h"

namespace depthroute {
namespace {

TEST(Cells, GridIsTheProductOfItsLists) {
  const auto cells = resolve_cells({grid({Intervention::mask, Intervention::zero, Intervention::only})}, {},
                                   plan_of(Variant::cumulative));
  ASSERT_EQ(cells.size(), 4u * 2u * 3u * 3u);
  EXPECT_EQ(cells.front().name, "mask/embedding/attn/early");
  EXPECT_EQ(cells.back().name, "only/current/mlp/late");
}

TEST(Cells, EverySiteOfAGridIsCountedOnce) {
  for (Variant variant : {Variant::cumulative, Variant::reset, Variant::kimi}) {
    for (int64_t layers : {1, 2, 5, 7}) {
      const DepthPlan plan = plan_of(variant, layers, 3);
      for (const Cell& cell : resolve_cells(
               {grid({Intervention::mask, Intervention::zero, Intervention::only, Intervention::bias})}, {},
               plan)) {
        int sites = 0;
        for (int site = 0; site < plan.num_sublayers(); ++site)
          sites += cell.sublayer == to_string(plan.sites[site].sublayer) &&
                   cell.band == to_string(plan.band(site));
        EXPECT_EQ(cell.sites_ablated + cell.sites_skipped + cell.sites_absent, sites) << cell.name;
        int controlled = 0, first = static_cast<int>(plan.sites.size());
        for (int site = static_cast<int>(plan.sites.size()) - 1; site >= 0; --site) {
          const SiteChange& intervention = cell.site_changes.at(site);
          if (intervention.offset.empty() && intervention.scale.empty()) continue;
          ++controlled;
          first = site;
        }
        EXPECT_EQ(controlled, cell.sites_ablated) << cell.name;
        EXPECT_EQ(first, cell.first_site) << cell.name;
      }
    }
  }
}

TEST(Cells, FamiliesTouchEverySourceExactlyOnce) {
  for (Variant variant : {Variant::cumulative, Variant::reset, Variant::kimi}) {
    const DepthPlan plan = plan_of(variant);
    std::vector<Edge> touched, all;
    for (const Cell& cell : resolve_cells({grid({Intervention::mask})}, {}, plan)) {
      touched.insert(touched.end(), cell.sources.begin(), cell.sources.end());
      touched.insert(touched.end(), cell.skipped_sources.begin(), cell.skipped_sources.end());
    }
    for (int site = 0; site < plan.num_sublayers(); ++site)
      for (int j = 0; j < plan.sites[site].num_sources(); ++j) all.push_back({site, j});
    std::sort(touched.begin(), touched.end());
    EXPECT_EQ(touched, all);
  }
}

TEST(Cells, EdgesAreEverySourceOfEverySite) {
  const DepthPlan plan = plan_of(Variant::reset, 5, 4);
  GridConfig config;
  config.edges = EdgeChoice::all;
  config.interventions = {Intervention::mask};
  const auto cells = resolve_cells({config}, {}, plan);
  size_t edges = 0;
  for (const Site& site : plan.sites) edges += site.sources.size();
  ASSERT_EQ(cells.size(), edges);
  EXPECT_EQ(cells.front().name, "mask/layers.0.attn/0");
  EXPECT_EQ(cells.back().name, "mask/final/" + std::to_string(plan.sites.back().num_sources() - 1));
  for (const Cell& cell : cells) EXPECT_EQ(cell.sources.size(), 1u) << cell.name;
}

TEST(Cells, EdgesOfNamedSublayersAreThoseOfAllInTheSameOrder) {
  const DepthPlan plan = plan_of(Variant::reset, 5, 4);
  GridConfig config;
  config.edges = EdgeChoice::all;
  config.interventions = {Intervention::mask, Intervention::zero};
  const auto all = resolve_cells({config}, {}, plan);
  for (const std::vector<Sublayer>& sublayers :
       {std::vector{Sublayer::mlp}, {Sublayer::final, Sublayer::attn}, values<Sublayer>()}) {
    config.sublayers = sublayers;
    std::vector<std::string> names, expected;
    for (const Cell& cell : resolve_cells({config}, {}, plan)) names.push_back(cell.name);
    for (const Cell& cell : all)
      for (const Sublayer sublayer : sublayers)
        if (cell.sublayer == to_string(sublayer)) expected.push_back(cell.name);
    EXPECT_EQ(names, expected);
  }
  config.sublayers = {Sublayer::final};
  EXPECT_THROW(resolve_cells({config}, {}, plan_of(Variant::cumulative)), ConfigError);
}

TEST(Cells, GridsComeBeforeSingleCells) {
  const auto cells =
      resolve_cells({grid({Intervention::mask}), grid({Intervention::zero})},
                    {single(Intervention::only, {0}, {1}, {Sublayer::mlp})}, plan_of(Variant::cumulative));
  ASSERT_EQ(cells.size(), 49u);
  EXPECT_EQ(cells[0].name, "mask/embedding/attn/early");
  EXPECT_EQ(cells[24].name, "zero/embedding/attn/early");
  EXPECT_EQ(cells[48].name, "cell");
}

TEST(Cells, InterventionsAreOffsetsAndScales) {
  const DepthPlan plan = plan_of(Variant::reset, 6, 4);
  const int site = 11, n = plan.sites[site].num_sources();  // layers.5.mlp
  ASSERT_EQ(n, 4);
  const auto intervention = [&](CellConfig config) {
    return resolve_one(config, plan).site_changes.at(site);
  };
  EXPECT_EQ(intervention(single(Intervention::mask, {1}, {5}, {Sublayer::mlp})).offset,
            (std::vector<float>{0, kDropped, 0, 0}));
  EXPECT_EQ(intervention(single(Intervention::only, {1}, {5}, {Sublayer::mlp})).offset,
            (std::vector<float>{kDropped, 0, kDropped, kDropped}));
  EXPECT_EQ(intervention(single(Intervention::zero, {0, 3}, {5}, {Sublayer::mlp})).scale,
            (std::vector<float>{0, 1, 1, 0}));
  CellConfig bias = single(Intervention::bias, {2}, {5}, {Sublayer::mlp});
  bias.value = -1.5;
  EXPECT_EQ(intervention(bias).offset, (std::vector<float>{0, 0, -1.5f, 0}));
  CellConfig schedule = single(Intervention::schedule, {}, {5}, {Sublayer::mlp});
  schedule.value = 3;
  EXPECT_EQ(intervention(schedule).offset, (std::vector<float>{0, 0, 0, 3}));
  EXPECT_FALSE(intervention(schedule).learned_logits);
  EXPECT_EQ(intervention(single(Intervention::uniform, {}, {5}, {Sublayer::mlp})).offset,
            (std::vector<float>{0, 0, 0, 0}));
  EXPECT_FALSE(intervention(single(Intervention::uniform, {}, {5}, {Sublayer::mlp})).learned_logits);
  EXPECT_TRUE(intervention(single(Intervention::mask, {1}, {5}, {Sublayer::mlp})).learned_logits);
}

TEST(Cells, DistinctTouchesEveryCopy) {
  const DepthPlan plan = plan_of(Variant::cumulative, 6, 4);
  ASSERT_EQ(plan.sites[8].sources, (std::vector<int>{0, 4, 8, 8}));
  CellConfig config = single(Intervention::mask, {3}, {}, {Sublayer::attn});
  config.layers = {4};
  const Cell raw = resolve_one(config, plan);
  EXPECT_EQ(raw.sites_duplicate, 1);
  EXPECT_EQ(raw.site_changes[8].offset, (std::vector<float>{0, 0, 0, kDropped}));
  config.distinct = true;
  const Cell distinct = resolve_one(config, plan);
  EXPECT_EQ(distinct.sites_duplicate, 0);
  EXPECT_EQ(distinct.site_changes[8].offset, (std::vector<float>{0, 0, kDropped, kDropped}));
  // At the first site both sources are the embedding: nothing would be left.
  config.layers = {0};
  config.source_positions = {0};
  EXPECT_EQ(resolve_one(config, plan).sites_skipped, 1);
  EXPECT_FALSE(resolve_one(config, plan).runs());
  EXPECT_EQ(resolve_one(config, plan).first_site, static_cast<int>(plan.sites.size()));
  // `only` keeps every copy.
  config.intervention = Intervention::only;
  config.layers = {4};
  config.source_positions = {2};
  EXPECT_EQ(resolve_one(config, plan).site_changes[8].offset, (std::vector<float>{kDropped, kDropped, 0, 0}));
}

TEST(Cells, TheFinalSiteIsTakenByNameOnly) {
  const DepthPlan plan = plan_of(Variant::reset, 6, 4);
  GridConfig config = grid({Intervention::mask});
  config.sublayers = values<Sublayer>();
  const auto cells = resolve_cells({config}, {}, plan);
  int finals = 0;
  for (const Cell& cell : cells) {
    const bool touches = !cell.site_changes.back().offset.empty();
    EXPECT_EQ(touches, cell.sublayer == "final") << cell.name;
    finals += cell.sublayer == "final";
  }
  EXPECT_EQ(finals, 4);  // one per family, not one per band
  EXPECT_THROW(resolve_cells({config}, {}, plan_of(Variant::cumulative)), ConfigError);
}

TEST(Cells, WholeSiteInterventionsComeOncePerGrid) {
  GridConfig config = grid({Intervention::uniform});
  config.families.clear();
  const auto cells = resolve_cells({config}, {}, plan_of(Variant::kimi));
  ASSERT_EQ(cells.size(), 6u);
  EXPECT_EQ(cells[0].name, "uniform/all/attn/early");
  EXPECT_EQ(cells[0].sites_absent, 1);  // kimi's first site has one source
  EXPECT_EQ(cells[0].sites_ablated, 1);
}

void expect_refused(const CellConfig& config, const std::string& part, const DepthPlan& plan) {
  try {
    resolve_cells({}, {config}, plan);
    ADD_FAILURE() << "accepted: " << part;
  } catch (const ConfigError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find(part), std::string::npos) << text;
    EXPECT_NE(text.find("'cell'"), std::string::npos) << text;
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  }
}

TEST(Cells, WhatThePlanDoesNotHaveIsRefusedByName) {
  const DepthPlan plan = plan_of(Variant::cumulative, 6, 4);
  expect_refused(single(Intervention::mask, {0}, {6}, {Sublayer::mlp}), "layer 6 is out of range", plan);
  expect_refused(single(Intervention::mask, {4}, {5}, {Sublayer::mlp}), "source 4 is out of range", plan);
  expect_refused(single(Intervention::mask, {-1}, {5}, {Sublayer::mlp}), "source -1 is out of range", plan);
  expect_refused(single(Intervention::mask, {0}, {}, {Sublayer::final}), "no final site", plan);
  expect_refused(single(Intervention::mask, {}, {1}, {Sublayer::mlp}), "needs sources", plan);
  expect_refused(single(Intervention::uniform, {0}, {1}, {Sublayer::mlp}), "remove its sources", plan);
  EXPECT_NO_THROW(resolve_cells({}, {single(Intervention::mask, {0}, {1}, {Sublayer::mlp})}, plan));
  const std::vector<CellConfig> twice(2, single(Intervention::mask, {0}, {1}, {Sublayer::mlp}));
  EXPECT_THROW(resolve_cells({}, twice, plan), ConfigError);
}

TEST(Cells, OptionsOfAGridAreInTheNames) {
  GridConfig config = grid({Intervention::mean, Intervention::mask});
  config.replace = Replace::values;
  config.average = Average::position;
  config.tokens = TokenFilter::position_0;
  const auto cells = resolve_cells({config, grid({Intervention::mean})}, {}, plan_of(Variant::cumulative));
  EXPECT_EQ(cells[0].name, "mean/embedding/attn/early/values/position/position_0");
  EXPECT_EQ(cells[1].name, "mask/embedding/attn/early/position_0");
}

TEST(Cells, LayersOfAGridAddUpWithBands) {
  const DepthPlan plan = plan_of(Variant::reset, 6, 4);
  GridConfig config = grid({Intervention::mask});
  config.families = {Family::embedding};
  config.sublayers = {Sublayer::mlp};
  config.bands = {Band::late};
  config.layers = {1};
  const auto cells = resolve_cells({config}, {}, plan);
  ASSERT_EQ(cells.size(), 2u);
  EXPECT_EQ(cells[0].name, "mask/embedding/mlp/late");
  EXPECT_EQ(cells[1].name, "mask/embedding/mlp/layers.1");
  EXPECT_EQ(cells[1].band, "layers 1");
  EXPECT_EQ(cells[1].sources, (std::vector<Edge>{{3, 0}}));
  config.layers = {6};
  EXPECT_THROW(resolve_cells({config}, {}, plan), ConfigError);
}

TEST(Cells, EdgesAreLimitedByLayersAndBands) {
  const DepthPlan plan = plan_of(Variant::reset, 6, 4);
  GridConfig config;
  config.edges = EdgeChoice::all;
  config.interventions = {Intervention::mask};
  const auto all = resolve_cells({config}, {}, plan);
  config.layers = {0};
  config.bands = {Band::late};
  config.sublayers = {Sublayer::mlp};
  std::vector<std::string> expected, names;
  for (const Cell& cell : all)
    if (cell.sublayer == "mlp" && (plan.sites[cell.site].layer == 0 || cell.band == "late"))
      expected.push_back(cell.name);
  for (const Cell& cell : resolve_cells({config}, {}, plan)) {
    names.push_back(cell.name);
    EXPECT_EQ(cell.sources, (std::vector<Edge>{{cell.site, cell.source}}));
  }
  EXPECT_EQ(names, expected);
  EXPECT_GT(names.size(), 0u);
  // The final site is in no layer.
  config.sublayers.clear();
  for (const Cell& cell : resolve_cells({config}, {}, plan)) EXPECT_NE(cell.sublayer, "final");
}

}  // namespace
}  // namespace depthroute
