// Entries of `grids` and `cells`, and which keys go together (eval/SPEC.md §2).
#include <gtest/gtest.h>

#include "tests/configs/support.h"

namespace depthroute::test {
namespace {

std::string grid_error(const std::string& grid) { return eval_error(kEval + "grids:\n  - " + grid + "\n"); }
std::string cell_error(const std::string& cell) { return eval_error(kEval + "cells:\n  - " + cell + "\n"); }

TEST(Cells, SpecificationExample) {
  const EvalConfig config = parse_eval_config(R"(
output: results.h5
model: {from: runs/demo/checkpoints/latest, wrap: {recency_bias: 30, num_blocks: 8}}
data: {shards: [shards/val.bin], seq_len: 2048, sequences: 256}
routing: {weights: none}
grids:
  - {families: [embedding, older, recent, current], sublayers: [attn, mlp], bands: [early, mid, late],
     interventions: [mask]}
  - {edges: all, sublayers: [mlp], interventions: [mask]}
cells:
  - {name: steer, sources: [0], layers: [3], sublayers: [mlp], intervention: bias, value: 2.0}
statistics: {bootstrap: 10000, alpha: 0.05, margin: 0.01, seed: 1}
)",
                                              "eval.yaml");
  ASSERT_EQ(config.grids.size(), 2u);
  const GridConfig& grid = config.grids[0];
  EXPECT_EQ(grid.families, values<Family>());
  EXPECT_EQ(grid.edges, EdgeChoice::none);
  EXPECT_EQ(grid.sublayers, (std::vector<Sublayer>{Sublayer::attn, Sublayer::mlp}));
  EXPECT_EQ(grid.bands, values<Band>());
  EXPECT_EQ(grid.interventions, std::vector<Intervention>{Intervention::mask});
  EXPECT_FALSE(grid.value.has_value());
  const GridConfig& edges = config.grids[1];
  EXPECT_EQ(edges.edges, EdgeChoice::all);
  EXPECT_EQ(edges.sublayers, std::vector<Sublayer>{Sublayer::mlp});
  EXPECT_TRUE(edges.families.empty());
  ASSERT_EQ(config.cells.size(), 1u);
  const CellConfig& steer = config.cells[0];
  EXPECT_EQ(steer.name, "steer");
  EXPECT_EQ(steer.source_positions, std::vector<int64_t>{0});
  EXPECT_TRUE(steer.source_families.empty());
  EXPECT_EQ(steer.layers, std::vector<int64_t>{3});
  EXPECT_EQ(steer.sublayers, std::vector<Sublayer>{Sublayer::mlp});
  EXPECT_EQ(steer.intervention, Intervention::bias);
  EXPECT_EQ(steer.value, 2.0);
  ASSERT_TRUE(config.model.wrap.has_value());
  EXPECT_EQ(config.model.wrap->recency_bias, std::vector<double>{30.0});
}

TEST(Cells, Accepted) {
  for (const char* grid :
       {"{edges: all, interventions: [mask]}", "{edges: all, interventions: [bias, only], value: 1}",
        "{edges: all, sublayers: [attn, final], interventions: [mask]}",
        "{sublayers: [attn], bands: [mid], interventions: [uniform]}",
        "{families: [older], edges: none, sublayers: [attn], bands: [mid], interventions: [mask]}",
        "{families: [current], sublayers: [final], interventions: [mask]}"})
    EXPECT_EQ(grid_error(grid), "") << grid;
  for (const char* cell :
       {"{name: a, sublayers: [attn, mlp, final], intervention: uniform}",
        "{name: a, sources: [older, current], sublayers: [mlp], bands: [mid], layers: [0, 5], "
        "intervention: zero}",
        "{name: a, sublayers: [mlp], intervention: schedule, value: 30}"})
    EXPECT_EQ(cell_error(cell), "") << cell;
}

TEST(Cells, GridsRefused) {
  const std::string at = "eval.yaml:5: ";
  EXPECT_EQ(grid_error("{sublayers: [attn], bands: [mid], interventions: [mask]}"),
            at + "grids[0].families is required for a grid of interventions with sources (or edges: all)");
  EXPECT_EQ(grid_error("{families: [older], bands: [mid], interventions: [mask]}"),
            at + "grids[0].sublayers is required for a grid");
  EXPECT_EQ(grid_error("{families: [older], sublayers: [attn], interventions: [mask]}"),
            at + "grids[0].bands is required for sublayers 'attn' and 'mlp'");
  EXPECT_EQ(grid_error("{families: [older], sublayers: [attn], bands: [mid]}"),
            at + "required key 'grids[0].interventions' is missing (what is done at each site)");
  EXPECT_EQ(grid_error("{families: [older], sublayers: [final], bands: [mid], interventions: [mask]}"),
            at + "grids[0].bands does not go here: the final site is in no band");
  EXPECT_EQ(grid_error("{families: [older], sublayers: [attn], bands: [mid], interventions: [uniform]}"),
            at + "grids[0].families does not go here: 'uniform' and 'schedule' set all weights of a site and "
                 "have no sources");
  EXPECT_EQ(
      grid_error("{edges: all, interventions: [uniform]}"),
      at + "grids[0].edges does not go here: 'uniform' and 'schedule' set all weights of a site and have "
           "no sources");
  EXPECT_EQ(
      grid_error("{families: [older], sublayers: [attn], bands: [mid], interventions: [mask, uniform]}"),
      at + "grids[0].interventions: 'uniform' and 'schedule' have no sources; give them a grid of their "
           "own, without families");
  EXPECT_EQ(grid_error("{edges: all, bands: [mid], interventions: [mask]}"),
            at + "grids[0].bands does not go here: edges: all stands for every layer");
  EXPECT_EQ(grid_error("{edges: all, families: [older], interventions: [mask]}"),
            at + "grids[0].families does not go here: edges: all stands for every source");
  EXPECT_EQ(grid_error("{edges: some, interventions: [mask]}"),
            at + "grids[0].edges must be one of none, all, got 'some'");
  EXPECT_EQ(grid_error("{edges: all, interventions: [bias]}"),
            at + "grids[0].value is required for interventions 'schedule' and 'bias'");
  EXPECT_EQ(grid_error("{edges: all, interventions: [mask], value: 1}"),
            at + "grids[0].value does not go here: only 'schedule' and 'bias' take a value");
  EXPECT_EQ(grid_error("{edges: all, interventions: [mask], name: a}"),
            at + "unknown key 'grids[0].name'; keys here: families, edges, sublayers, bands, interventions, "
                 "value, distinct");
  EXPECT_EQ(grid_error("{edges: all, interventions: [mask, mask]}"),
            at + "grids[0].interventions names mask twice");
  EXPECT_EQ(grid_error("{families: [older], sublayers: [attn], bands: [none], interventions: [mask]}"),
            at + "grids[0].bands[0] must be one of early, mid, late, got 'none'");
  EXPECT_EQ(grid_error("5"), at + "grids[0] must be a map of keys, got '5'");
  EXPECT_EQ(
      eval_error(kEval + "grids:\n  - {edges: all, interventions: [mask]}\n", {"grids.0.interventions=[x]"}),
      "--set grids.0.interventions=[x]: grids[0].interventions[0] must be one of mask, only, zero, "
      "uniform, schedule, bias, got 'x'");
}

TEST(Cells, SinglesRefused) {
  const std::string at = "eval.yaml:5: ";
  EXPECT_EQ(cell_error("{name: a, sources: [0], sublayers: [attn], intervention: resample}"),
            at + "cells[0].intervention = resample is not available in this version; available: mask, only, "
                 "zero, uniform, schedule, bias");
  EXPECT_EQ(
      cell_error("{name: a, sources: [0], sublayers: [attn], intervention: maks}"),
      at + "cells[0].intervention must be one of mask, only, zero, uniform, schedule, bias, got 'maks'");
  EXPECT_EQ(cell_error("{sources: [0], sublayers: [attn], intervention: mask}"),
            at + "required key 'cells[0].name' is missing (name of the cell; no two cells may share one)");
  EXPECT_EQ(cell_error("{name: a, sublayers: [attn], intervention: mask}"),
            at + "cells[0].sources is required for intervention 'mask'");
  EXPECT_EQ(cell_error("{name: a, sources: [0], sublayers: [attn], intervention: uniform}"),
            at + "cells[0].sources does not go here: 'uniform' sets all weights of a site");
  EXPECT_EQ(cell_error("{name: a, sublayers: [attn], intervention: uniform, distinct: true}"),
            at + "cells[0].distinct does not go here: 'uniform' and 'schedule' set all weights of a site, "
                 "copies included");
  EXPECT_EQ(cell_error("{name: a, sources: [0], intervention: mask}"),
            at + "required key 'cells[0].sublayers' is missing (sublayers whose sites are touched)");
  EXPECT_EQ(cell_error("{name: a, sources: [0], sublayers: [final], layers: [1], intervention: mask}"),
            at + "cells[0].layers does not go here: the final site is in no layer");
  EXPECT_EQ(cell_error("{name: a, sources: [0], sublayers: [attn], intervention: bias}"),
            at + "cells[0].value is required for interventions 'schedule' and 'bias'");
  EXPECT_EQ(cell_error("{name: a, sources: [0, current], sublayers: [attn], intervention: mask}"),
            at + "cells[0].sources[0] must be text, got '0'; put it in quotes if it is meant");
  EXPECT_EQ(cell_error("{name: a, sources: [0], sublayer: [attn], intervention: mask}"),
            at + "unknown key 'cells[0].sublayer'; did you mean 'cells[0].sublayers'?");
  EXPECT_EQ(cell_error("5"), at + "cells[0] must be a map of keys, got '5'");
}

TEST(Cells, TheEarlierSpellingOfAGridShowsTheNewOne) {
  const std::string said =
      "cells[0].grid is an earlier spelling: grids have a list of their own, \"grids: [{families: [older], "
      "sublayers: [attn], bands: [mid], interventions: [mask]}]\"";
  EXPECT_EQ(cell_error("grid: {edges: all, interventions: [mask]}"), "eval.yaml:5: " + said);
  EXPECT_EQ(cell_error("{name: a, grid: {edges: all, interventions: [mask]}}"), "eval.yaml:5: " + said);
  EXPECT_EQ(eval_error(kEval + "cells:\n  - {}\n", {"cells.0.grid.edges=all"}),
            "--set cells.0.grid.edges=all: " + said);
}

}  // namespace
}  // namespace depthroute::test
