// What depthroute-eval can be told; see train_config.h for how keys are declared.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace depthroute {

struct WrapConfig {
  std::vector<double> recency_bias = {30.0};  // one value, or one per site
  int64_t num_blocks = 8;
  int64_t sublayers_per_block = 0;  // 0: from num_blocks
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
  std::string weights = "none";  // none | all
};

/// One entry of `cells` after reading; a grid stands for the product of its lists.
struct CellConfig {
  bool is_grid = false;
  // grid
  std::vector<std::string> families, grid_sublayers, bands, interventions;
  bool edges = false;  // grid: {edges: all}: every (site, source) by itself
  // explicit cell; sources by family or position, sites by sublayers x (bands or layers)
  std::string name;
  std::vector<std::string> source_families;
  std::vector<int64_t> source_positions;
  std::vector<std::string> sublayers;
  std::vector<std::string> cell_bands;
  std::vector<int64_t> layers;
  std::string intervention;
  // both
  double value = 0;       // bias: the offset; schedule: b
  bool distinct = false;  // touch every copy of a duplicated state (SPEC §5)
  int line = 0;           // where it stands, for messages
};

struct StatisticsConfig {
  int64_t bootstrap = 10000;
  double alpha = 0.05;
  double margin = 0.01;
  uint64_t seed = 1;
};

struct EvalConfig {
  std::string output;  // required
  std::string device = "auto";
  std::string precision = "bf16";
  int64_t micro_batch = 8;
  EvalModelConfig model;
  EvalDataConfig data;
  RoutingConfig routing;
  std::vector<CellConfig> cells;
  StatisticsConfig statistics;
};

}  // namespace depthroute
