// Entries of `cells`: grids and single cells, and which keys go together (SPEC §5).
#include <gtest/gtest.h>

#include "tests/configs/support.h"

namespace depthroute::test {
namespace {

std::string cell_error(const std::string& cell) { return eval_error(kEval + "cells:\n  - " + cell + "\n"); }

TEST(Cells, SpecificationExample) {
  const EvalConfig config = parse_eval_config(R"(
output: results.h5
model: {from: runs/demo/checkpoints/latest, wrap: {recency_bias: 30, num_blocks: 8}}
data: {shards: [shards/val.bin], seq_len: 2048, sequences: 256}
routing: {weights: none}
cells:
  - grid: {families: [embedding, older, recent, current], sublayers: [attn, mlp], bands: [early, mid, late],
           interventions: [mask]}
  - {name: steer, sources: [0], layers: [3], sublayers: [mlp], intervention: bias, value: 2.0}
statistics: {bootstrap: 10000, alpha: 0.05, margin: 0.01, seed: 1}
)",
                                              "eval.yaml");
  ASSERT_EQ(config.cells.size(), 2u);
  const CellConfig& grid = config.cells[0];
  EXPECT_TRUE(grid.is_grid);
  EXPECT_EQ(grid.families, (std::vector<std::string>{"embedding", "older", "recent", "current"}));
  EXPECT_EQ(grid.grid_sublayers, (std::vector<std::string>{"attn", "mlp"}));
  EXPECT_EQ(grid.bands, (std::vector<std::string>{"early", "mid", "late"}));
  EXPECT_EQ(grid.interventions, std::vector<std::string>{"mask"});
  EXPECT_EQ(grid.line, 7);
  const CellConfig& steer = config.cells[1];
  EXPECT_FALSE(steer.is_grid);
  EXPECT_EQ(steer.name, "steer");
  EXPECT_EQ(steer.source_positions, std::vector<int64_t>{0});
  EXPECT_TRUE(steer.source_families.empty());
  EXPECT_EQ(steer.layers, std::vector<int64_t>{3});
  EXPECT_EQ(steer.sublayers, std::vector<std::string>{"mlp"});
  EXPECT_EQ(steer.intervention, "bias");
  EXPECT_EQ(steer.value, 2.0);
  EXPECT_EQ(steer.line, 9);
  ASSERT_TRUE(config.model.wrap.has_value());
  EXPECT_EQ(config.model.wrap->recency_bias, std::vector<double>{30.0});
}

TEST(Cells, Accepted) {
  for (const char* cell : {"grid: {edges: all, interventions: [mask]}",
                           "grid: {edges: all, interventions: [bias, only], value: 1}",
                           "grid: {sublayers: [attn], bands: [mid], interventions: [uniform]}",
                           "grid: {families: [current], sublayers: [final], interventions: [mask]}",
                           "{name: a, sublayers: [attn, mlp, final], intervention: uniform}",
                           "{name: a, sources: [older, current], sublayers: [mlp], bands: [mid], layers: [0, "
                           "5], intervention: zero}",
                           "{name: a, sublayers: [mlp], intervention: schedule, value: 30}"})
    EXPECT_EQ(cell_error(cell), "") << cell;
}

TEST(Cells, Refused) {
  const std::string at = "eval.yaml:5: ";
  EXPECT_EQ(
      cell_error("grid: {sublayers: [attn], bands: [mid], interventions: [mask]}"),
      at + "cells[0].grid.families is required for a grid of interventions with sources (or edges: all)");
  EXPECT_EQ(cell_error("grid: {families: [older], bands: [mid], interventions: [mask]}"),
            at + "cells[0].grid.sublayers is required for a grid");
  EXPECT_EQ(cell_error("grid: {families: [older], sublayers: [attn], interventions: [mask]}"),
            at + "cells[0].grid.bands is required for sublayers 'attn' and 'mlp'");
  EXPECT_EQ(cell_error("grid: {families: [older], sublayers: [attn], bands: [mid]}"),
            at + "cells[0].grid.interventions is required for a grid");
  EXPECT_EQ(cell_error("grid: {families: [older], sublayers: [final], bands: [mid], interventions: [mask]}"),
            at + "cells[0].grid.bands does not go here: the final site is in no band");
  EXPECT_EQ(
      cell_error("grid: {families: [older], sublayers: [attn], bands: [mid], interventions: [uniform]}"),
      at + "cells[0].grid.families does not go here: 'uniform' and 'schedule' set all weights of a site and "
           "have "
           "no sources");
  EXPECT_EQ(cell_error(
                "grid: {families: [older], sublayers: [attn], bands: [mid], interventions: [mask, uniform]}"),
            at + "cells[0].grid.interventions: 'uniform' and 'schedule' have no sources; give them a grid of "
                 "their own, "
                 "without families");
  EXPECT_EQ(cell_error("grid: {edges: all, bands: [mid], interventions: [mask]}"),
            at + "cells[0].grid.bands does not go here: edges: all stands for every source of every site");
  EXPECT_EQ(cell_error("grid: {edges: some, interventions: [mask]}"),
            at + "cells[0].grid.edges must be 'all', got 'some'");
  EXPECT_EQ(cell_error("grid: {edges: all, interventions: [bias]}"),
            at + "cells[0].grid.value is required for interventions 'bias' and 'schedule'");
  EXPECT_EQ(cell_error("grid: {edges: all, interventions: [mask], value: 1}"),
            at + "cells[0].grid.value does not go here: only 'bias' and 'schedule' take a value");
  EXPECT_EQ(cell_error("{grid: {edges: all, interventions: [mask]}, name: a}"),
            at + "cells[0].name does not go here: this entry is a grid");
  EXPECT_EQ(cell_error("grid: {edges: all, interventions: [mask, mask]}"),
            at + "cells[0].grid.interventions names mask twice");
  EXPECT_EQ(cell_error("{name: a, sources: [0], sublayers: [attn], intervention: resample}"),
            at + "cells[0].intervention = resample is not available in this version; available: mask, only, "
                 "zero, uniform, "
                 "schedule, bias");
  EXPECT_EQ(
      cell_error("{name: a, sources: [0], sublayers: [attn], intervention: maks}"),
      at + "cells[0].intervention must be one of mask, only, zero, uniform, schedule, bias, got 'maks'");
  EXPECT_EQ(cell_error("{sources: [0], sublayers: [attn], intervention: mask}"),
            at + "cells[0].name is required for a cell outside a grid");
  EXPECT_EQ(cell_error("{name: a, sublayers: [attn], intervention: mask}"),
            at + "cells[0].sources is required for intervention 'mask'");
  EXPECT_EQ(cell_error("{name: a, sources: [0], sublayers: [attn], intervention: uniform}"),
            at + "cells[0].sources does not go here: 'uniform' sets all weights of a site");
  EXPECT_EQ(cell_error("{name: a, sublayers: [attn], intervention: uniform, distinct: true}"),
            at + "cells[0].distinct does not go here: 'uniform' and 'schedule' set all weights of a site, "
                 "copies included");
  EXPECT_EQ(cell_error("{name: a, sources: [0], intervention: mask}"),
            at + "cells[0].sublayers is required for a cell outside a grid");
  EXPECT_EQ(cell_error("{name: a, sources: [0], sublayers: [final], layers: [1], intervention: mask}"),
            at + "cells[0].layers does not go here: the final site is in no layer");
  EXPECT_EQ(cell_error("{name: a, sources: [0], sublayers: [attn], intervention: bias}"),
            at + "cells[0].value is required for interventions 'bias' and 'schedule'");
  EXPECT_EQ(cell_error("{name: a, sources: [0, current], sublayers: [attn], intervention: mask}"),
            at + "cells[0].sources[0] must be text, got '0'; put it in quotes if it is meant");
  EXPECT_EQ(cell_error("{name: a, sources: [0], sublayer: [attn], intervention: mask}"),
            at + "unknown key 'cells[0].sublayer'; did you mean 'cells[0].sublayers'?");
  EXPECT_EQ(cell_error("5"), at + "cells[0] must be a map of keys, got '5'");
  EXPECT_EQ(eval_error(kEval + "cells:\n  - grid: {edges: all, interventions: [mask]}\n",
                       {"cells.0.grid.interventions=[x]"}),
            "--set cells.0.grid.interventions=[x]: cells[0].grid.interventions[0] must be one of mask, only, "
            "zero, uniform, "
            "schedule, bias, got 'x'");
}

}  // namespace
}  // namespace depthroute::test
