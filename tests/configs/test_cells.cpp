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
        "{edges: all, bands: [mid], layers: [0], interventions: [mask]}",
        "{families: [older], sublayers: [attn], layers: [3], interventions: [mask, resample], replace: keys}",
        "{families: [recent, older], sublayers: [attn], bands: [mid], interventions: [permute]}",
        "{sublayers: [attn], bands: [mid], interventions: [uniform, hold]}",
        "{sublayers: [attn], bands: [mid], interventions: [uniform]}",
        "{families: [older], edges: none, sublayers: [attn], bands: [mid], interventions: [mask]}",
        "{families: [current], sublayers: [final], interventions: [mask]}"})
    EXPECT_EQ(grid_error(grid), "") << grid;
  for (const char* cell :
       {"{name: a, sublayers: [attn, mlp, final], intervention: uniform}",
        "{name: a, sources: [older, current], sublayers: [mlp], bands: [mid], layers: [0, 5], "
        "intervention: zero}",
        "{name: a, sublayers: [mlp], intervention: schedule, value: 30}",
        "{name: a, sublayers: [mlp], intervention: hold, tokens: position_0, last_token: 0}",
        "{name: a, sources: [0, 1], sublayers: [mlp], intervention: permute, first_token: 3, last_token: 3}",
        "{name: a, union: [b, mask/older/attn/mid], per_token: true}"})
    EXPECT_EQ(cell_error(cell), "") << cell;
}

TEST(Cells, GridsRefused) {
  const std::string at = "eval.yaml:5: ";
  EXPECT_EQ(grid_error("{sublayers: [attn], bands: [mid], interventions: [mask]}"),
            at + "grids[0].families is required for a grid of interventions with sources (or edges: all)");
  EXPECT_EQ(grid_error("{families: [older], bands: [mid], interventions: [mask]}"),
            at + "grids[0].sublayers is required for a grid");
  EXPECT_EQ(grid_error("{families: [older], sublayers: [attn], interventions: [mask]}"),
            at + "grids[0].bands is required for sublayers 'attn' and 'mlp' (or layers)");
  EXPECT_EQ(grid_error("{families: [older], sublayers: [attn], bands: [mid]}"),
            at + "required key 'grids[0].interventions' is missing (what is done at each site)");
  EXPECT_EQ(grid_error("{families: [older], sublayers: [final], bands: [mid], interventions: [mask]}"),
            at + "grids[0].bands does not go here: the final site is in no band");
  EXPECT_EQ(
      grid_error("{families: [older], sublayers: [attn], bands: [mid], interventions: [uniform]}"),
      at + "grids[0].families does not go here: 'uniform', 'schedule', 'freeze' and 'hold' set all weights "
           "of a site and have no sources");
  EXPECT_EQ(
      grid_error("{edges: all, interventions: [uniform]}"),
      at + "grids[0].edges does not go here: 'uniform', 'schedule', 'freeze' and 'hold' set all weights of a "
           "site and have no sources");
  EXPECT_EQ(
      grid_error("{families: [older], sublayers: [attn], bands: [mid], interventions: [mask, uniform]}"),
      at + "grids[0].interventions: 'uniform', 'schedule', 'freeze' and 'hold' have no sources; give them a "
           "grid of their own, without families");
  EXPECT_EQ(grid_error("{edges: all, sublayers: [final], layers: [0], interventions: [mask]}"),
            at + "grids[0].layers does not go here: the final site is in no layer");
  EXPECT_EQ(grid_error("{edges: all, families: [older], interventions: [mask]}"),
            at + "grids[0].families does not go here: edges: all stands for every source");
  EXPECT_EQ(grid_error("{edges: some, interventions: [mask]}"),
            at + "grids[0].edges must be one of none, all, got 'some'");
  EXPECT_EQ(grid_error("{edges: all, interventions: [bias]}"),
            at + "grids[0].value is required for interventions 'schedule' and 'bias'");
  EXPECT_EQ(grid_error("{edges: all, interventions: [mask], value: 1}"),
            at + "grids[0].value does not go here: only 'schedule' and 'bias' take a value");
  EXPECT_EQ(grid_error("{edges: all, interventions: [mask], name: a}"),
            at + "unknown key 'grids[0].name'; keys here: families, edges, sublayers, bands, layers, "
                 "interventions, value, distinct, replace, average, tokens");
  EXPECT_EQ(grid_error("{edges: all, interventions: [mask, mask]}"),
            at + "grids[0].interventions names mask twice");
  EXPECT_EQ(grid_error("{families: [older], sublayers: [attn], bands: [none], interventions: [mask]}"),
            at + "grids[0].bands[0] must be one of early, mid, late, got 'none'");
  EXPECT_EQ(grid_error("5"), at + "grids[0] must be a map of keys, got '5'");
  EXPECT_EQ(
      eval_error(kEval + "grids:\n  - {edges: all, interventions: [mask]}\n", {"grids.0.interventions=[x]"}),
      "--set grids.0.interventions=[x]: grids[0].interventions[0] must be one of mask, only, zero, "
      "uniform, schedule, bias, mean, resample, freeze, hold, permute, got 'x'");
}

TEST(Cells, SinglesRefused) {
  const std::string at = "eval.yaml:5: ";
  EXPECT_EQ(cell_error("{name: a, sources: [0], sublayers: [attn], intervention: maks}"),
            at + "cells[0].intervention must be one of mask, only, zero, uniform, schedule, bias, mean, "
                 "resample, freeze, hold, permute, got 'maks'");
  EXPECT_EQ(cell_error("{sources: [0], sublayers: [attn], intervention: mask}"),
            at + "required key 'cells[0].name' is missing (name of the cell; no two cells may share one)");
  EXPECT_EQ(cell_error("{name: a, sublayers: [attn], intervention: mask}"),
            at + "cells[0].sources is required for intervention 'mask'");
  EXPECT_EQ(cell_error("{name: a, sources: [0], sublayers: [attn], intervention: uniform}"),
            at + "cells[0].sources does not go here: 'uniform' sets all weights of a site");
  EXPECT_EQ(
      cell_error("{name: a, sublayers: [attn], intervention: uniform, distinct: true}"),
      at + "cells[0].distinct does not go here: 'uniform', 'schedule', 'freeze' and 'hold' set all weights "
           "of a site, copies included");
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

TEST(Cells, OptionsOfOneInterventionAreRefusedForOthers) {
  const std::string at = "eval.yaml:5: ";
  const std::string mask = "{name: a, sources: [0], sublayers: [attn], intervention: mask, ";
  EXPECT_EQ(cell_error(mask + "replace: both}"),
            at + "cells[0].replace does not go here: only 'mean', 'resample' and 'permute' replace contents");
  EXPECT_EQ(cell_error(mask + "average: all}"),
            at + "cells[0].average does not go here: only 'mean' and 'freeze' use means");
  EXPECT_EQ(grid_error("{edges: all, interventions: [permute]}"),
            at + "grids[0].edges: 'permute' needs at least two sources of a site");
  EXPECT_EQ(grid_error("{families: [recent, current], sublayers: [final], interventions: [permute]}"),
            at + "grids[0].families: 'permute' needs at least two sources of a site");
  for (const char* one : {"[2]", "[embedding]"})
    EXPECT_EQ(
        cell_error(std::string("{name: a, sublayers: [mlp], intervention: permute, sources: ") + one + "}"),
        at + "cells[0].sources: 'permute' needs at least two sources of a site");
}

TEST(Cells, ReplaceAndAverageKnowWhetherTheyWereGiven) {
  const EvalConfig config = parse_eval_config(kEveryEvalKey, "eval.yaml");
  EXPECT_EQ(config.grids[2].replace, Replace::keys);
  EXPECT_EQ(config.grids[2].average, Average::position);
  EXPECT_EQ(config.grids[1].replace, std::nullopt);
  EXPECT_EQ(config.cells[3].replace, Replace::both);
  EXPECT_EQ(config.cells[3].average, std::nullopt);
  EXPECT_EQ(config.cells[4].average, Average::all);
}

TEST(Cells, RangesOfPositions) {
  const std::string at = "eval.yaml:5: ";
  const std::string cell = "{name: a, sources: [0], sublayers: [attn], intervention: mask, ";
  EXPECT_EQ(cell_error(cell + "first_token: 7, last_token: 6}"),
            at + "cells[0].first_token = 7 is after last_token = 6");
  EXPECT_EQ(cell_error(cell + "first_token: 2048}"),
            at + "cells[0].first_token = 2048 is beyond the last position; data.seq_len is 2048");
  EXPECT_EQ(cell_error(cell + "first_token: 1, tokens: position_0}"),
            at + "cells[0].tokens: no position from 1 to 2047 is in 'position_0'");
  EXPECT_EQ(cell_error(cell + "last_token: 0, tokens: not_position_0}"),
            at + "cells[0].tokens: no position from 0 to 0 is in 'not_position_0'");
}

TEST(Cells, UnionsStandAlone) {
  const std::string at = "eval.yaml:5: ";
  for (const char* key : {"sources: [0]", "sublayers: [attn]", "bands: [mid]", "layers: [0]",
                          "intervention: mask", "value: 1", "distinct: true", "replace: keys", "average: all",
                          "tokens: position_0", "first_token: 1", "last_token: 1"}) {
    const std::string name = std::string(key).substr(0, std::string(key).find(':'));
    EXPECT_EQ(cell_error(std::string("{name: a, union: [b, c], ") + key + "}"),
              at + "cells[0]." + name + " does not go here: the cells of 'union' say this");
  }
  EXPECT_EQ(cell_error("{name: a, union: [b]}"), at + "cells[0].union must name at least two cells");
  EXPECT_EQ(cell_error("{name: a, union: [b, b]}"), at + "cells[0].union names b twice");
  EXPECT_EQ(cell_error("{name: a, union: [b, a]}"), at + "cells[0].union names the cell itself");
  EXPECT_EQ(cell_error("{name: a, union: []}"), at + "cells[0].union must not be an empty list");
}

TEST(Cells, MeansComeFromAnotherSplitThanIsMeasured) {
  const std::string cell = "cells:\n  - {name: a, sources: [0], sublayers: [attn], intervention: mean}\n";
  const std::string grid = "grids:\n  - {sublayers: [attn], bands: [mid], interventions: [freeze]}\n";
  const std::string why = ": 'mean' and 'freeze' use means over the calibration split, which ";
  EXPECT_EQ(eval_error(kEval + cell),
            "eval.yaml:5: cells[0].intervention" + why +
                "data.split: all would measure as well; set data.split: exploration");
  EXPECT_EQ(eval_error(kEval + grid, {"data.split=calibration"}),
            "eval.yaml:5: grids[0].interventions" + why +
                "data.split: calibration would measure as well; set data.split: exploration");
  EXPECT_EQ(eval_error(kEval + cell + grid, {"data.split=exploration"}), "");
  EXPECT_EQ(
      eval_error(kEval + cell + "splits: {calibration: 0, exploration: 1, confirmation: 0}\n",
                 {"data.split=exploration"}),
      "eval.yaml:5: cells[0].intervention" + why + "splits.calibration = 0 leaves empty; give it a share");
}

TEST(Cells, DonorsAreOtherSequencesOfTheBatch) {
  const std::string text =
      kEval + "cells:\n  - {name: a, sources: [0], sublayers: [attn], intervention: resample}\n";
  EXPECT_EQ(eval_error(text, {"micro_batch=6", "data.sequences=6"}), "");
  for (const char* few : {"micro_batch=5", "data.sequences=5"})
    EXPECT_EQ(eval_error(text, {few}),
              "eval.yaml:5: cells[0].intervention: 'resample' takes 5 donors from the other sequences of a "
              "batch, which holds 5; raise micro_batch and data.sequences to at least 6, or lower "
              "resample.donors");
}

TEST(Cells, Claims) {
  const auto error = [](const std::string& claims) { return eval_error(kEval + "claims:\n" + claims); };
  EXPECT_EQ(error("  - {name: a, cell: b}\n  - {name: b, cell: b, exceeds: null, margin: 0}\n"), "");
  EXPECT_EQ(error("  - {name: a, cell: b}\n  - {name: a, cell: c}\n"),
            "eval.yaml:6: claims[1].name: another claim has the name a");
  EXPECT_EQ(error("  - {name: a, cell: b, exceeds: b}\n"),
            "eval.yaml:5: claims[0].exceeds is the claim's own cell");
  EXPECT_EQ(error("  - {name: a}\n"),
            "eval.yaml:5: required key 'claims[0].cell' is missing (the cell whose effect is claimed)");
  EXPECT_EQ(error("  - {name: a, cell: b, margin: -1}\n"),
            "eval.yaml:5: claims[0].margin must be at least 0, got -1");
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
