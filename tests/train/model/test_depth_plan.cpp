// The depth plan against the table of train/model/SPEC.md §1, restated here as a slow definition over sets,
// for every variant, S and depth.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "train/model/depth_plan.h"

namespace depthroute {
namespace {

ModelConfig config_of(Variant variant, int layers, int sublayers_per_block) {
  ModelConfig config;
  config.num_layers = layers;
  config.residual.variant = variant;
  config.residual.sublayers_per_block = sublayers_per_block;
  return config;
}

/// S_0, then S_{kS} for every 1 <= k with kS <= limit, then S_s.
std::vector<int> expected_sources(int block, int limit, int s) {
  std::vector<int> sources = {0};
  for (int k = 1; k * block <= limit; ++k) sources.push_back(k * block);
  sources.push_back(s);
  return sources;
}

TEST(DepthPlan, FollowsTheTableForEveryVariantDepthAndBlock) {
  for (int layers : {1, 2, 3, 5, 28}) {
    for (int block = 1; block <= 2 * layers; ++block) {
      const int last = 2 * layers;
      for (Variant variant : {Variant::additive, Variant::cumulative, Variant::reset, Variant::kimi}) {
        const DepthPlan plan = make_depth_plan(config_of(variant, layers, block));
        const bool final = variant == Variant::reset || variant == Variant::kimi;
        ASSERT_EQ(plan.sites.size(), static_cast<size_t>(last + final));
        EXPECT_EQ(plan.has_final_site(), final);
        for (int s = 0; s < static_cast<int>(plan.sites.size()); ++s) {
          const Site& site = plan.sites[s];
          std::vector<int> expected;
          if (variant == Variant::additive || (variant == Variant::kimi && s == 0))
            expected = {s};
          else
            expected = expected_sources(block, variant == Variant::cumulative ? s : s - 1, s);
          EXPECT_EQ(site.sources, expected)
              << to_string(variant) << " L=" << layers << " S=" << block << " s=" << s;
          EXPECT_EQ(site.routed, variant != Variant::additive);
          const bool boundary = s > 0 && s < last && s % block == 0;
          EXPECT_EQ(site.restart, s < last && ((variant == Variant::reset && boundary) ||
                                               (variant == Variant::kimi && (boundary || s == 0))));
        }
      }
    }
  }
}

// Groups cover the sites in order; in a group all sources but the last are the same; no two neighbouring
// groups could have been one.
TEST(DepthPlan, GroupsAreTheLongestRunsThatShareTheirEarlierSources) {
  const auto earlier = [](const Site& site) {
    return std::vector<int>(site.sources.begin(), site.sources.end() - 1);
  };
  for (int layers : {1, 3, 28})
    for (int block : {1, 3, 7, 8, 56})
      for (Variant variant : {Variant::additive, Variant::cumulative, Variant::reset, Variant::kimi}) {
        const DepthPlan plan = make_depth_plan(config_of(variant, layers, std::min(block, 2 * layers)));
        const std::vector<SiteGroup> groups = group_sites(plan.sites);
        int next = 0;
        for (size_t g = 0; g < groups.size(); ++g) {
          ASSERT_EQ(groups[g].first, next);
          ASSERT_GE(groups[g].count, 1);
          ASSERT_LE(groups[g].count, kMaxGroupSites);
          next = groups[g].end();
          const Site& first = plan.sites[groups[g].first];
          for (int s = groups[g].first; s < groups[g].end(); ++s)
            EXPECT_EQ(earlier(plan.sites[s]), earlier(first));
          if (first.num_sources() == 1) {
            EXPECT_EQ(groups[g].count, 1);
          }
          if (g > 0 && first.num_sources() > 1 &&
              earlier(plan.sites[groups[g - 1].first]) == earlier(first)) {
            EXPECT_GT(groups[g].count + groups[g - 1].count, kMaxGroupSites);
          }
        }
        EXPECT_EQ(next, static_cast<int>(plan.sites.size()));
      }
}

// With `alone`, the sites whose current state is also a finished one are taken out of their groups.
TEST(DepthPlan, BoundariesCanBeGroupsOfTheirOwn) {
  for (Variant variant : {Variant::additive, Variant::cumulative, Variant::reset, Variant::kimi}) {
    const DepthPlan plan = make_depth_plan(config_of(variant, 28, 8));
    int next = 0, boundaries = 0;
    for (const SiteGroup& group : group_sites(plan.sites, true)) {
      ASSERT_EQ(group.first, next);
      next = group.end();
      for (int s = group.first; s < group.end(); ++s) {
        if (s == 0 || plan.sites[s].duplicate_of.back() < 0) continue;
        EXPECT_EQ(group.count, 1);
        ++boundaries;
      }
    }
    EXPECT_EQ(next, static_cast<int>(plan.sites.size()));
    EXPECT_EQ(boundaries > 0, variant == Variant::cumulative);
  }
}

TEST(DepthPlan, DefaultBlockIsTwiceTheLayersPerBlock) {
  ModelConfig config = config_of(Variant::cumulative, 28, 0);
  config.residual.num_blocks = 8;
  const DepthPlan plan = make_depth_plan(config);
  EXPECT_EQ(plan.sublayers_per_block, 8);
  int edges =
      0;  // notes on the 0.6B model: 280 (site, source) edges, duplicates at attention sites 0, 8, 16 ... 48
  std::vector<int> duplicate_sites;
  for (int s = 0; s < plan.num_sublayers(); ++s) {
    edges += plan.sites[s].num_sources();
    for (int original : plan.sites[s].duplicate_of)
      if (original >= 0) duplicate_sites.push_back(s);
  }
  EXPECT_EQ(edges, 280);
  EXPECT_EQ(duplicate_sites, (std::vector<int>{0, 8, 16, 24, 32, 40, 48}));
}

TEST(DepthPlan, FamiliesAreExclusiveExhaustiveAndByPosition) {
  Site site;
  const Family expected[5][5] = {
      {Family::current},
      {Family::embedding, Family::current},
      {Family::embedding, Family::recent, Family::current},
      {Family::embedding, Family::older, Family::recent, Family::current},
      {Family::embedding, Family::older, Family::older, Family::recent, Family::current}};
  for (int n = 1; n <= 5; ++n) {
    site.sources.assign(n, 0);
    for (int j = 0; j < n; ++j)
      EXPECT_EQ(site.family(j), expected[n - 1][j]) << n << " sources, position " << j;
  }
}

TEST(DepthPlan, BandsAreThirdsOfTheLayers) {
  const DepthPlan plan = make_depth_plan(config_of(Variant::kimi, 28, 7));
  for (int s = 0; s < plan.num_sublayers(); ++s) EXPECT_EQ(static_cast<int>(plan.band(s)), 3 * (s / 2) / 28);
  EXPECT_EQ(plan.band(plan.num_sublayers()), Band::none);
  EXPECT_EQ(plan.site_name(plan.num_sublayers()), "final");
  EXPECT_EQ(plan.site_name(7), "layers.3.mlp");
}

// Two states may use one gradient buffer only if, walking back, the earlier one receives nothing before the
// later one is done with: S_{s+1} = S_s + f_s and no site other than s reads S_s.
TEST(DepthPlan, GradientSlotsNeverMixTwoLiveGradients) {
  for (Variant variant : {Variant::additive, Variant::cumulative, Variant::reset, Variant::kimi}) {
    for (int block : {1, 2, 3, 4, 10}) {
      const DepthPlan plan = make_depth_plan(config_of(variant, 5, block));
      std::set<int> used;
      for (int s = 0; s <= plan.num_sublayers(); ++s) {
        bool read_elsewhere = false;
        for (int site = 0; site < static_cast<int>(plan.sites.size()); ++site)
          for (int source : plan.sites[site].sources) read_elsewhere |= source == s && site != s;
        EXPECT_TRUE(plan.kept[s] || !read_elsewhere) << s;
        if (s == plan.num_sublayers()) break;
        const bool shares = plan.gradient_slot[s] == plan.gradient_slot[s + 1];
        EXPECT_FALSE(shares && (read_elsewhere || plan.sites[s].restart)) << s;
        used.insert(plan.gradient_slot[s]);
      }
      used.insert(plan.gradient_slot[plan.num_sublayers()]);
      EXPECT_EQ(static_cast<int>(used.size()), plan.num_gradient_slots);
    }
  }
}

TEST(DepthPlan, ScheduleWeightsSumToOneAndFollowTheFormula) {
  for (int n : {1, 2, 5, 57}) {
    for (double b : {-800.0, -3.0, 0.0, 3.0, 30.0, 800.0}) {
      const ScheduleWeights w = schedule_weights(n, b);
      EXPECT_NEAR(w.current + (n - 1) * w.other, 1.0, 1e-14);
      if (std::abs(b) > 100) continue;  // e^b overflows
      EXPECT_NEAR(w.current, std::exp(b) / (std::exp(b) + n - 1), 1e-14);
    }
  }
}

}  // namespace
}  // namespace depthroute
