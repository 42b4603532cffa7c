// What depthroute-eval can be told. eval_schema.cpp states the key, range and meaning of every field once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "configs/terms.h"

namespace depthroute {

struct WrapConfig {
  std::vector<double> recency_bias = {30.0};  // one value, or one per site
  int64_t num_blocks = 8;                     // used if sublayers_per_block is 0
  int64_t sublayers_per_block = 0;            // 0: from num_blocks
};
struct EvalModelConfig {
  std::string from;                // required: checkpoint, checkpoints/latest, or model folder
  std::optional<WrapConfig> wrap;  // only for a plain Qwen3
};
struct EvalDataConfig {
  std::vector<std::string> shards;  // required
  int64_t seq_len = 2048;
  int64_t sequences = 256;  // the first this many windows, in order
};
struct RoutingConfig {
  RoutingWeights weights = RoutingWeights::none;
};

/// An entry of `grids`: the product of its lists, one cell each.
struct GridConfig {
  std::vector<Family> families;  // empty for interventions that act on all sources
  EdgeChoice edges =
      EdgeChoice::none;             // all: every (site, source) of `sublayers` instead of families and bands
  std::vector<Sublayer> sublayers;  // may be empty with edges: every site
  std::vector<Band> bands;          // of attn and mlp
  std::vector<Intervention> interventions;
  std::optional<double> value;  // bias: the offset; schedule: its recency bias
  bool distinct = false;        // touch every copy of a state that a site holds twice
};

/// An entry of `cells`: sources by family or position, sites by sublayers x (bands or layers).
struct CellConfig {
  std::string name;
  std::vector<Family> source_families;
  std::vector<int64_t> source_positions;
  std::vector<Sublayer> sublayers;
  std::vector<Band> bands;
  std::vector<int64_t> layers;
  Intervention intervention = Intervention::mask;
  std::optional<double> value;
  bool distinct = false;
};

struct StatisticsConfig {
  int64_t bootstrap = 10000;
  double alpha = 0.05;
  double margin = 0.01;
  uint64_t seed = 1;
};

struct EvalConfig {
  std::string output;  // required
  DeviceChoice device = DeviceChoice::automatic;
  Precision precision = Precision::bf16;
  int64_t micro_batch = 8;
  EvalModelConfig model;
  EvalDataConfig data;
  RoutingConfig routing;
  std::vector<GridConfig> grids;
  std::vector<CellConfig> cells;
  StatisticsConfig statistics;
};

}  // namespace depthroute
